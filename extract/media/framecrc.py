"""The text that ffmpeg's framecrc muxer writes: for each frame or packet its time and size.

It goes through a pipe of its own, and ffmpeg writes all of it. So nothing in a media file, such as
a title that looks like a line of a log, can be taken for a time or a size.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from m2hf.errors import MediaError

_NO_TIME = -(1 << 63)


@dataclass
class TimedStream:
    """Times and sizes of one stream's frames or packets, in the order in which they were written.

    `pts` and `durations` are in units of `unit_s` seconds; an unknown time is left out of `end_s`.
    """

    unit_s: Fraction = Fraction(1)
    width: int = 0
    height: int = 0
    pts: "array[int]" = field(default_factory=lambda: array("q"))
    durations: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    end: int = _NO_TIME

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def end_s(self) -> float | None:
        """When the last of them ends, in seconds; None where there is none."""
        return None if self.end == _NO_TIME else self.seconds(self.end)

    def seconds(self, pts: int) -> float:
        return pts * self.unit_s.numerator / self.unit_s.denominator

    def since(self, start_s: float) -> "TimedStream":
        """The same with times from `start_s` on."""
        start = round(start_s / self.unit_s)
        end = self.end if self.end == _NO_TIME else self.end - start
        return replace(self, pts=array("q", (pts - start for pts in self.pts)), end=end)

    def any_within(self, end_s: float | None) -> bool:
        """Whether any of them lasts beyond time 0 and begins before `end_s`."""
        last = float("inf") if end_s is None else end_s / self.unit_s
        return any(
            pts + max(duration, 1) > 0 and pts < last
            for pts, duration in zip(self.pts, self.durations, strict=True)
        )

    def any_from(self, time_s: float) -> bool:
        """Whether any of them begins at a time or later."""
        first = time_s / self.unit_s
        return any(pts >= first for pts in self.pts)

    def none_between(self, start_s: float, end_s: float) -> bool:
        """Whether none of them begins from one time up to another."""
        start, end = start_s / self.unit_s, end_s / self.unit_s
        return not any(start <= pts < end for pts in self.pts)

    def add(self, pts: int, duration: int, size: int) -> None:
        if pts == _NO_TIME:
            return
        self.pts.append(pts)
        self.durations.append(duration)
        self.sizes.append(size)
        self.end = max(self.end, pts + duration)


class FrameCrc:
    """Parses the output of one framecrc muxer as it arrives.

    check: called with the number of a stream and the stream after each line about it; it may raise
    an error to stop reading.
    """

    def __init__(self, check: Callable[[int, TimedStream], None] | None = None) -> None:
        self.streams: dict[int, TimedStream] = {}
        self._check = check
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes; raises MediaError for a line of another form."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            try:
                self._read(line.decode("ascii", errors="replace"))
            except (ValueError, IndexError, ZeroDivisionError) as error:
                raise MediaError(f"ffmpeg's list of frames is unreadable: {line[:80]!r}") from error

    def stream(self, number: int) -> TimedStream:
        """One stream; empty where nothing was written about it."""
        return self.streams.setdefault(number, TimedStream())

    def _read(self, line: str) -> None:
        if line.startswith("#"):
            name, _, value = line[1:].partition(":")
            word, _, number = name.partition(" ")
            if word == "tb":
                self.stream(int(number)).unit_s = Fraction(value.strip())
            elif word == "dimensions":
                stream = self.stream(int(number))
                stream.width, stream.height = map(int, value.strip().split("x"))
        elif line.strip():
            at, dts, pts, duration, size = map(int, line.split(",")[:5])
            stream = self.stream(at)
            # Some containers have no presentation times, which differ little from decoding times.
            stream.add(dts if pts == _NO_TIME else pts, duration, size)
            if self._check is not None:
                self._check(at, stream)
