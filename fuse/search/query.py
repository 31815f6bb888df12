"""What can be asked, and what should be said of it: the text before any encoder sees it."""

import unicodedata
from collections.abc import Iterable

from m2hf.errors import UsageError

MOST = 1000  # characters; a text tower reads about 300

_SILENT = ("P", "Z", "C")  # general categories of punctuation, space and control
_LETTERS = ("Lu", "Ll", "Lt", "Lo")


def checked(text: str) -> str:
    """The query without space at its ends. Raises UsageError for one with nothing to look for,
    one that is no text, and one beyond MOST characters."""
    text = text.strip()
    if any(unicodedata.category(c) == "Cs" for c in text):
        raise UsageError("the query is not UTF-8 text; set the terminal or the client to UTF-8")
    if all(unicodedata.category(c)[0] in _SILENT for c in text):
        raise UsageError("the query is empty; say in a few words what the video should show")
    if len(text) > MOST:
        raise UsageError(f"the query has {len(text)} characters, at most {MOST}; shorten it")
    return text


def scripts(texts: Iterable[str]) -> set[str]:
    """Scripts of the letters in `texts`, by the first word of their Unicode names: Latin, CJK."""
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    plain = unicodedata.normalize("NFKC", "".join(sorted(characters)))
    letters = {c for c in plain if unicodedata.category(c) in _LETTERS}
    return {unicodedata.name(c, "UNKNOWN").partition(" ")[0].capitalize() for c in letters}


def foreign(text: str, known: set[str]) -> str:
    """A remark where no letter of the query is in one of the scripts `known` of the captions;
    "" where one is, or where there is nothing to compare."""
    asked = scripts([text])
    if not asked or not known or asked & known:
        return ""
    return (
        f"the query is in {_listed(asked)} script and the captions are in {_listed(known)}: "
        "the order of these results may mean nothing"
    )


def _listed(names: set[str]) -> str:
    return " and ".join(sorted(names))
