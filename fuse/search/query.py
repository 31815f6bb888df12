"""Checks of a query's text, before it is encoded."""

import unicodedata
from collections.abc import Iterable

from m2hf.errors import UsageError

MAX_CHARACTERS = 1000  # of a query; a text tower reads about 300

_SILENT = ("P", "Z", "C")  # general categories of punctuation, space and control
_LETTERS = ("Lu", "Ll", "Lt", "Lo")


def checked(text: str) -> str:
    """The query without leading and trailing space. Raises UsageError for one without letters or
    symbols, one that is not UTF-8, and one longer than MAX_CHARACTERS."""
    text = text.strip()
    if any(unicodedata.category(c) == "Cs" for c in text):
        raise UsageError("the query is not UTF-8 text; set the terminal or the client to UTF-8")
    if all(unicodedata.category(c)[0] in _SILENT for c in text):
        raise UsageError("the query is empty; describe in a few words what the video should show")
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"the query has {len(text)} characters, at most {MAX_CHARACTERS}; shorten it"
        )
    return text


def scripts(texts: Iterable[str]) -> set[str]:
    """Scripts of the letters in `texts`, by the first word of their Unicode names: Latin, CJK."""
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    plain = unicodedata.normalize("NFKC", "".join(sorted(characters)))
    letters = {c for c in plain if unicodedata.category(c) in _LETTERS}
    return {unicodedata.name(c, "UNKNOWN").partition(" ")[0].capitalize() for c in letters}


def script_remark(text: str, known: set[str]) -> str:
    """A remark where no letter of the query is in one of the captions' scripts `known`; "" where
    one is, and where query or captions have no letters."""
    found = scripts([text])
    if not found or not known or found & known:
        return ""
    return (
        f"the query is in {_listed(found)} script and the captions are in {_listed(known)}: "
        "the ranking of these results may be meaningless"
    )


def _listed(names: set[str]) -> str:
    return " and ".join(sorted(names))
