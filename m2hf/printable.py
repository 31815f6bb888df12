"""Untrusted text made safe to print: control characters and bidi overrides are escaped."""

_JOINERS = "\u200c\u200d"  # zero-width joiners, which some scripts and emoji need


def printable(text: str) -> str:
    """`text` with escapes in place of control characters and of bidirectional controls."""
    return "".join(
        c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text
    )
