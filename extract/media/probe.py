"""What a media file says of itself: its container, its streams, and how long it is.

ffmpeg prints what it finds in a file to its log, next to titles, languages and other text of the
file, which may imitate it. So the streams are read from the list that ffmpeg prints of an output
that has no such text and follows after it; and no time and no size is read from the log at all (see
`framecrc`): the duration in the header is only compared with what was decoded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

_INPUT = re.compile(r"^Input #0, (\S+), from ")
_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)(?:, start: (-?\d+\.\d+))?")
_OUTPUT = "Output #0, null, to "
_EMPTY = re.compile(r"^(?:\[\S+ @ 0x[0-9a-f]+\] )?Stream map '\S*' matches no streams")
_STREAM = re.compile(r"^  Stream #0:\d+: (Video|Audio|Subtitle): (\w+)(.*)")
_TRANSFER = re.compile(r"\([^()]*\b(smpte2084|arib-std-b67)\b[^()]*\)")
_PROBLEM = re.compile(r"error|invalid|not found|could not|failed|denied", re.IGNORECASE)
_ADDRESS = re.compile(r"^(\[[^\]]+ @ 0x[0-9a-f]+\] )+")
_IMAGES = {"png", "mjpeg", "bmp", "gif", "webp", "tiff", "jpegls", "apng"}
_STILL = ("attached pic", "still image", "timed thumbnails")
_SECONDARY = (
    "comment", "visual impaired", "hearing impaired", "descriptions", "clean effects", "karaoke",
    "dependent",
)  # fmt: skip
_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
_WITH_DURATION = (*_INDEXED, "avi", "flv", "asf", "wav", "w64", "aiff", "caf", "nut", "mxf")


class StreamKind(Enum):
    VIDEO = "Video"
    AUDIO = "Audio"
    SUBTITLE = "Subtitle"

    @property
    def letter(self) -> str:
        """Its letter in ffmpeg's names of streams."""
        return self.value[0].lower()

    @property
    def label(self) -> str:
        """What messages call such a stream."""
        return f"{self.value.lower()} stream"


@dataclass(frozen=True)
class Stream:
    """One stream of a file."""

    kind: StreamKind
    number: int
    """0 for the first of its kind in the file."""

    codec: str
    """ffmpeg's name of the codec; none or unknown where it has no decoder for it."""

    details: str
    """The rest of the line about it: pixel format, layout of channels, dispositions."""

    problem: str = ""
    """Why ffmpeg can't even list it, such as a video without a key frame, whose size is unknown."""

    @property
    def specifier(self) -> str:
        """ffmpeg's name of the stream within the file."""
        return f"{self.kind.letter}:{self.number}"

    @property
    def decodable(self) -> bool:
        return self.codec not in ("none", "unknown")

    @property
    def still(self) -> bool:
        """Whether it is a single image: cover art, a thumbnail."""
        return any(f"({word})" in self.details for word in _STILL)

    @property
    def default(self) -> bool:
        return "(default)" in self.details

    @property
    def secondary(self) -> bool:
        """Whether it is an addition to another one, such as a commentary."""
        return any(f"({word})" in self.details for word in _SECONDARY)

    @property
    def image_codec(self) -> bool:
        return self.codec in _IMAGES

    @property
    def transfer(self) -> str:
        """The transfer characteristic of an HDR video, "" of others."""
        match = _TRANSFER.search(self.details)
        return match[1] if match else ""

    @property
    def mono(self) -> bool:
        return ", mono" in self.details


@dataclass
class Probe:
    """What ffmpeg printed about a file when it opened it; feed it the lines of the log."""

    container: str = ""
    """ffmpeg's name of the demuxer."""

    streams: list[Stream] = field(default_factory=list)
    duration_s: float | None = None
    """Duration in the header, from time 0 or from `start_s`, which depends on the container."""

    start_s: float = 0.0
    """First time stamp of the file."""

    problem: str = ""
    """The first line that reports one."""

    empty: bool = False
    """Whether the file has none of the streams that were asked for."""

    _listing: bool = False

    @property
    def has_index(self) -> bool:
        """Whether ffmpeg finds a time in it exactly, without reading what is before it."""
        return self.container in _INDEXED

    @property
    def stated_duration_s(self) -> float | None:
        """Duration that is written in the file; None where ffmpeg has estimated it."""
        return self.duration_s if self.container in _WITH_DURATION else None

    def of_kind(self, kind: StreamKind) -> list[Stream]:
        """The streams of a kind that are no still images, in the order of the file."""
        return [stream for stream in self.streams if stream.kind is kind and not stream.still]

    def only_stream(self, kind: StreamKind, number: int) -> Stream | None:
        """The one stream that was asked for; None where the file has no such stream."""
        if self.streams:
            return replace(self.streams[0], number=number)
        if self.empty:
            return None
        return Stream(kind, number, "unknown", "", self.problem or "it can't be read")

    def read(self, line: str) -> None:
        """Take in one line of the log."""
        if line.startswith(_OUTPUT):
            # What looked like a list of streams before was the input's, or text of the file.
            self.streams, self._listing = [], True
        elif self._listing and (match := _STREAM.match(line)):
            kind = StreamKind(match[1])
            number = sum(stream.kind is kind for stream in self.streams)
            self.streams.append(Stream(kind, number, match[2], match[3]))
        elif _EMPTY.search(line):
            self.empty = True
        elif not self.container:
            if match := _INPUT.match(line):
                self.container = match[1]
            elif not self.problem and _PROBLEM.search(line):
                self.problem = plain_problem(line)
        elif self.duration_s is None and (match := _DURATION.match(line)):
            self.duration_s = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
            self.start_s = float(match[4] or 0.0)


def list_streams(source: Any, specifiers: Sequence[str]) -> Any:
    """The output of ffmpeg whose list of streams a Probe reads; it has no text of the file."""
    import ffmpeg

    streams = [source[specifier] for specifier in specifiers]
    bare = {"map_metadata": -1, "map_metadata:s": -1, "map_chapters": -1}
    return ffmpeg.output(*streams, "-", format="null", codec="copy", t=0, **bare)


@dataclass(frozen=True)
class ChosenStream:
    """The stream of a kind that is read, and a remark where there was a choice."""

    stream: Stream
    remark: str


def choose(probe: Probe, kind: StreamKind) -> ChosenStream | None:
    """The stream of a kind to read; None where the file has none.

    Still images never count. Of the others, in this order: one that can be decoded, that is no
    commentary or other addition, whose codec isn't one of images, that the file marks as default;
    at last the first in the file.
    """
    streams = probe.of_kind(kind)
    if not streams:
        return None
    chosen = min(
        streams,
        key=lambda s: (not s.decodable, s.secondary, s.image_codec, not s.default, s.number),
    )
    number, of = streams.index(chosen) + 1, len(streams)
    remark = f"{kind.label} {number} of {of} was read" if of > 1 else ""
    return ChosenStream(chosen, remark)


def plain_problem(line: str) -> str:
    """A line of ffmpeg's log without the addresses of its parts, which differ in every run."""
    return _ADDRESS.sub("", line).strip()
