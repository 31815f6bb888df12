"""A media file as ffmpeg reads it: its streams, and one decoding run over a part of it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import MediaError
from m2hf.extract.media import outputs
from m2hf.extract.media.ffmpeg_process import Deadline, FfmpegProcess, Sink
from m2hf.extract.media.framecrc import FrameCrc, TimedStream
from m2hf.extract.media.outputs import Span
from m2hf.extract.media.probe import Probe, Stream, StreamKind, list_streams, plain_problem
from m2hf.extract.media.sound import aligned
from m2hf.extract.media.spool import Bytes, Spool
from m2hf.extract.media.views import FrameView, MediaLimits

# Demuxers of self-contained files. Playlists (hls, concat, dash, image patterns) are not among
# them: they could name another file or an address.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,wav,mp3,flac,"
    "aac,ac3,rm,gif,h264,hevc,m4v,dv,nut,ivf,mxf,amr,aiff,au,caf,w64,wtv,vob,swf"
)
_MOST_STREAMS = 32  # of a kind, where they are listed one by one
_SAFE = {"protocol_whitelist": "file,pipe", "format_whitelist": CONTAINERS}
_QUIET = ["-loglevel", "error"]  # no text of the file is in the log
_LENIENT = ["-max_error_rate", "1"]  # damaged frames alone are no reason for an exit code
# Times of the file, from its first time stamp on. Else ffmpeg corrects those that go back, each
# stream on its own, and so now and then by twice as much as it should.
_FILE_TIMES = ["-copyts", "-start_at_zero"]
_TOO_LARGE = re.compile(r"Picture size (\d+x\d+) exceeds specified max pixel count")


@dataclass(frozen=True)
class Wanted:
    """What to decode in one run: views of a video stream and rates of an audio stream.

    timed: the streams whose packets' times are listed; left: the first channel of the sound in
    place of the mix of all.
    """

    video: Stream | None
    views: tuple[FrameView, ...]
    audio: Stream | None
    rates: tuple[int, ...]
    timed: tuple[Stream, ...]
    left: bool = False

    @property
    def outputs(self) -> tuple[FrameView | int, ...]:
        return (*self.views, *self.rates)

    def only_video(self) -> "Wanted":
        return replace(self, audio=None, rates=())

    def only_audio(self, left: bool = False) -> "Wanted":
        return replace(self, video=None, views=(), left=left)

    def only_times(self) -> "Wanted":
        return replace(self, video=None, views=(), audio=None, rates=())


@dataclass(frozen=True, eq=False)
class TimedPixels:
    """The frames of a view as they were written: their bytes, and their times in the part."""

    data: Bytes
    times: TimedStream


@dataclass
class Decoded:
    """What one run gave; times are in seconds from the start of the part."""

    code: int = 0
    """ffmpeg's exit code, negative for a signal."""

    problem: str = ""
    """The first line of its log of errors."""

    packets: dict[Stream, TimedStream] = field(default_factory=dict)
    frames: dict[FrameView, TimedPixels] = field(default_factory=dict)
    samples: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    """(N,) mono, by rate; sample 0 is the start of the part."""

    sound_error: MediaError | None = None
    """Why samples can't be put in the order of their times."""


class MediaSource:
    """A media file, and the limits on reading it, in all its runs together."""

    def __init__(self, path: Path, limits: MediaLimits) -> None:
        self._path = path
        self._limits = limits
        self._deadline = Deadline.after(limits.timeout_s)

    def probe(self) -> Probe:
        """What the file says of itself; raises MediaError where it can't be opened in time."""
        probe = self._list([f"{kind.letter}?" for kind in StreamKind])
        if probe.container and not probe.streams and not probe.empty:
            # One stream that ffmpeg can't list keeps the others from being listed.
            probe.streams = [stream for kind in StreamKind for stream in self._each(kind)]
        return probe

    def _each(self, kind: StreamKind) -> Iterator[Stream]:
        for number in range(_MOST_STREAMS):
            alone = self._list([f"{kind.letter}:{number}"])
            stream = alone.only_stream(kind, number)
            if stream is None:
                return
            yield stream

    def _list(self, specifiers: Sequence[str]) -> Probe:
        import ffmpeg

        probe = Probe()
        source = ffmpeg.input(self._address(), **_SAFE)
        command = list_streams(source, specifiers).compile()[1:]
        code = FfmpegProcess((), probe.read, self._deadline).run(lambda _: command)
        if code < 0:
            raise MediaError(_crash(code))
        probe.problem = self._without_path(probe.problem)
        return probe

    def decode(self, wanted: Wanted, span: Span) -> Decoded:
        """Run ffmpeg once.

        Raises MediaError where a limit is exceeded or time stamps go back, ResourceError where
        memory or disk space run out.
        """
        limits = self._limits
        log = _ErrorLog()
        check = _Check(limits, span, wanted)
        listed = FrameCrc(check)
        times = {output: FrameCrc() for output in wanted.outputs}
        with Spool(limits.memory_mb, limits.max_output_mb, limits.spool_folder) as spool:
            sinks: list[Sink] = [listed.feed]
            for number, output in enumerate(wanted.outputs):
                sinks += [partial(spool.append, number), times[output].feed]
            process = FfmpegProcess(sinks, log.read, self._deadline)
            code = process.run(partial(self._command, wanted, span))
            if log.too_large:
                raise MediaError(
                    f"frames of {log.too_large} are over the limit of {limits.max_pixels} pixels"
                )
            problem = _crash(code) if code < 0 else self._without_path(log.problem)
            decoded = Decoded(code, problem)
            for number, stream in enumerate(wanted.timed):
                decoded.packets[stream] = listed.stream(number).since(span.start_s)
            for number, output in enumerate(wanted.outputs):
                data, written = spool.take(number), times[output].stream(0)
                if isinstance(output, FrameView):
                    decoded.frames[output] = TimedPixels(data, written)
                    continue
                beyond = len(wanted.outputs) + number
                try:
                    samples = aligned(data, written, output, spool, beyond)
                except MediaError as error:
                    decoded.sound_error = error
                else:
                    decoded.samples[output] = samples.view("<f4")
        return decoded

    def _command(self, wanted: Wanted, span: Span, fds: Sequence[int]) -> list[str]:
        """ffmpeg's arguments; fds: of the list of packets, then two of each output."""
        import ffmpeg

        options: dict[str, Any] = {"threads": 1, "max_pixels": self._limits.max_pixels}
        if span.seek_s > 0:
            options |= {"noaccurate_seek": None, "ss": span.seek_s}
        source = ffmpeg.input(self._address(), **_SAFE, **options)
        made = [outputs.packets([source[s.specifier] for s in wanted.timed], span, fds[0])]
        pairs = zip(fds[1::2], fds[2::2], strict=True)
        for output, pipes in zip(wanted.outputs, pairs, strict=True):
            if isinstance(output, FrameView):
                assert wanted.video is not None
                stream = source[wanted.video.specifier]
                made.append(outputs.frames(stream, output, span, wanted.video.transfer, pipes))
            else:
                assert wanted.audio is not None
                stream = source[wanted.audio.specifier]
                made.append(outputs.sound(stream, output, span, wanted.left, pipes))
        return [*_QUIET, *_LENIENT, *_FILE_TIMES, *ffmpeg.merge_outputs(*made).compile()[1:]]

    def _address(self) -> str:
        # "file:" keeps a name such as "concat:a|b" or "-i" from meaning anything else.
        return f"file:{self._path.absolute()}"

    def _without_path(self, text: str) -> str:
        return text.replace(str(self._path.absolute()), self._path.name)


def _crash(code: int) -> str:
    return f"ffmpeg crashed on it (signal {-code})"


@dataclass
class _ErrorLog:
    """What ffmpeg's log of errors says: its first line, and the size of too large a frame."""

    problem: str = ""
    too_large: str = ""

    def read(self, line: str) -> None:
        self.problem = self.problem or plain_problem(line)
        if match := _TOO_LARGE.search(line):
            self.too_large = match[1]


@dataclass
class _Check:
    """Limits on the packets of the video and the audio stream, checked as they arrive."""

    limits: MediaLimits
    span: Span
    wanted: Wanted
    _last_s: dict[int, float] = field(default_factory=dict)

    def __call__(self, number: int, times: TimedStream) -> None:
        limits, kind = self.limits, self.wanted.timed[number].kind
        if kind is StreamKind.SUBTITLE or not len(times):
            return
        if times.width * times.height > limits.max_pixels:
            size = f"{times.width}x{times.height}"
            raise MediaError(f"frames of {size} are over the limit of {limits.max_pixels} pixels")
        now_s = max(0.0, times.seconds(times.pts[-1]) - self.span.start_s)
        if now_s > limits.max_duration_s:
            raise MediaError(f"longer than the limit of {limits.max_duration_s:g} s")
        before_s = self._last_s.get(number, 0.0)
        if now_s - before_s > limits.max_gap_s:
            raise MediaError(
                f"the time stamps of the {kind.label} jump from {before_s:.1f} to "
                f"{now_s:.1f} s, over the limit of {limits.max_gap_s:g} s"
            )
        self._last_s[number] = now_s
