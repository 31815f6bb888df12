"""Words for a video, of OCR, speech recognition and an image classifier: an excerpt, and all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from m2hf.features import Features
from m2hf.fuse.features.stream import Stream
from m2hf.streams import ASR, CONCEPTS, HALLUCINATED, OCR

_EXCERPT = 60  # characters
_WHOLE = 2000  # characters, of longer text the page gives the length
_TITLES = {OCR: "on screen", ASR: "speech", CONCEPTS: "seen"}


@dataclass(frozen=True)
class RecognisedText:
    """title: where the text is from; whole: equal to `excerpt` for short text."""

    title: str
    excerpt: str
    whole: str


def recognised_texts(streams: Mapping[str, Stream], video: str) -> Iterator[RecognisedText]:
    """The text of each stream, in time order and without repetitions.

    Raises ShardError for a damaged item.
    """
    for name, title in _TITLES.items():
        item = streams[name].item(video) if name in streams else None
        if item is not None and item.features.texts:
            text = " · ".join(dict.fromkeys(_strings(item.features, streams[name].columns)))
            more = len(text) - _WHOLE
            rest = f" (and {more} more characters: see `m2hf show`)" if more > 0 else ""
            yield RecognisedText(title, _cut(text, _EXCERPT), _cut(text, _WHOLE) + rest)


def _strings(features: Features, columns: tuple[str, ...]) -> Iterator[str]:
    column = columns.index(HALLUCINATED) if HALLUCINATED in columns else None
    for row, text in enumerate(features.texts or ()):
        doubtful = column is not None and features.values[row, column]
        yield f"(likely hallucinated) {text.strip()}" if doubtful else text.strip()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()}…"
