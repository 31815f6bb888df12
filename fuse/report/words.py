"""What was read or heard in a video, as a page shows it: a short line, and the whole."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from m2hf.features import Features
from m2hf.fuse.features.store import Stream
from m2hf.fuse.report.source import HEARD, READ
from m2hf.streams import HALLUCINATED

_SHORT = 60  # characters of a line
_WHOLE = 2000  # and of what opens below it, beyond which the page says how much there is
_TITLES = {READ: "read", HEARD: "heard"}


@dataclass(frozen=True)
class Words:
    """title: read or heard; whole: the same as `short` where that is all."""

    title: str
    short: str
    whole: str


def words(streams: Mapping[str, Stream], video: str) -> Iterator[Words]:
    """Each different string once, in time order. Raises ShardError for a damaged item."""
    for name, title in _TITLES.items():
        item = streams[name].item(video) if name in streams else None
        if item is not None and item.features.texts:
            text = " · ".join(dict.fromkeys(_strings(item.features, streams[name].columns)))
            yield Words(title, _cut(text, _SHORT), _cut(text, _WHOLE, say=True))


def _strings(features: Features, columns: tuple[str, ...]) -> Iterator[str]:
    place = columns.index(HALLUCINATED) if HALLUCINATED in columns else None
    for number, text in enumerate(features.texts or ()):
        doubt = place is not None and features.values[number, place]
        yield f"({HALLUCINATED}) {text.strip()}" if doubt else text.strip()


def _cut(text: str, most: int, say: bool = False) -> str:
    if len(text) <= most:
        return text
    more = f" (and {len(text) - most} more characters: see `m2hf show`)" if say else ""
    return f"{text[:most].rstrip()}…{more}"
