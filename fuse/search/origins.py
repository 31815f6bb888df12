"""Whether a string of a stream was read in frames (OCR), heard (ASR), or names what was seen."""

from dataclasses import dataclass
from typing import Literal, Self

from m2hf.features import Features
from m2hf.fuse.features.stream import Stream
from m2hf.layout import StoreLayout
from m2hf.shard_header import ShardHeader
from m2hf.streams import ASR, CONCEPTS, OCR, StreamName

Origin = Literal["seen", "read", "heard", "text"]


@dataclass(frozen=True, eq=False)
class Origins:
    """The streams that a stream of strings was derived from, or is; None where there is none.
    seen: whether its strings name what frames show."""

    seen: bool
    read: Stream | None
    heard: Stream | None

    @classmethod
    def of(cls, layout: StoreLayout, derived: ShardHeader) -> Self:
        """derived: header of the stream, whose declared config names its inputs."""
        seen = derived.kind == CONCEPTS
        return cls(seen, _source(layout, derived, OCR), _source(layout, derived, ASR))

    def of_line(self, video: str, text: str, start_s: float, end_s: float) -> Origin:
        """The origin of a line: "seen" for a name of what is seen, "read" if its words occur in OCR
        rows with the same start, "heard" if in an ASR segment with the same times, else "text"."""
        if self.seen:
            return "seen"
        words = set(text.split())
        read, heard = _item(self.read, video), _item(self.heard, video)
        if read is not None and words <= _words(read, [s == start_s for s in read.start_s]):
            return "read"
        if heard is not None:
            times = zip(heard.start_s, heard.end_s, strict=True)
            if words <= _words(heard, [span == (start_s, end_s) for span in times]):
                return "heard"
        return "text"


def _source(layout: StoreLayout, derived: ShardHeader, extractor: str) -> Stream | None:
    if derived.kind == extractor:
        name = StreamName.of(derived.extractor, derived.fingerprint)
    elif read := derived.config.get("reads", {}).get(extractor):
        name = StreamName.of(extractor, read)
    else:
        return None
    return Stream.open(layout, name) if name in layout.streams() else None


def _item(stream: Stream | None, video: str) -> Features | None:
    return stream.features(video) if stream is not None and stream.holds([video])[0] else None


def _words(features: Features, there: list[bool]) -> set[str]:
    rows = zip(features.texts or (), there, strict=True)
    return {word for text, kept in rows if kept for word in text.split()}
