"""Text from outside as it may be shown: nothing in it steers a terminal or turns a line round."""

_JOINERS = "\u200c\u200d"  # which letters and emoji are made of


def printable(text: str) -> str:
    """`text` with escapes in place of control signs and of signs that set a direction."""
    return "".join(
        c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode() for c in text
    )
