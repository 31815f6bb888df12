"""Runs ffmpeg to decode a clip: its command line, its output pipes, and its log."""

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import M2hfError, MediaError
from m2hf.extract.media.spool import Bytes, Spool
from m2hf.extract.media.views import FrameView, MediaLimits
from m2hf.ffmpeg import ffmpeg_exe

# Demuxers of self-contained files. Playlists (hls, concat, dash, image patterns) are not among
# them: they could name another file or an address.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,wav,mp3,flac,"
    "aac,ac3,rm,gif,h264,hevc,m4v,dv,nut,ivf,mxf,amr,aiff,au,caf,w64,wtv,vob,swf"
)
_DURATION = re.compile(r"^\s*Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_STREAM = re.compile(r"^\s*Stream #0:\d+.*?: (Video|Audio): (.*)")
_PIXELS = re.compile(r"\b(\d{1,6})x(\d{1,6})\b")
_SHOWINFO = re.compile(r"\[showinfo@v(\d+) @ .*? pts_time:\s*(\S+) .* s:(\d+)x(\d+) ")
_FRAME_DURATION = re.compile(r" duration_time:\s*(\d+(?:\.\d+)?)")
_PROBLEM = re.compile(r"error|invalid|not found|could not|failed|denied", re.IGNORECASE)
_ADDRESS = re.compile(r"^\[\S+ @ 0x[0-9a-f]+\] ")
_CHUNK = 1 << 20
# The mono mix is scaled to at most 1, as for integers: by default ffmpeg adds float channels up.
_MONO = {"async": 1, "first_pts": 0, "ochl": "mono", "osf": "flt", "rematrix_maxval": 1.0}


@dataclass
class DecodedStreams:
    """The result of one ffmpeg run: its outputs' bytes, and the facts parsed from its log.

    Outputs are numbered: first the views, then the rates.
    """

    has_video: bool = False
    has_audio: bool = False

    expected_s: float | None = None
    """Duration of the decoded part, from the file's header."""

    first_error: str = ""
    """The first line of the log that reports a problem."""

    views: tuple[FrameView, ...] = ()
    rates: tuple[int, ...] = ()

    times: dict[int, list[float]] = field(default_factory=dict)
    """Start of each frame in seconds, by output."""

    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Width and height of the frames, by output."""

    last_frame_durations: dict[int, float] = field(default_factory=dict)
    """Duration of the last frame in seconds, by output; 0 where the stream has none."""

    outputs: Mapping[int, Bytes] = field(default_factory=dict)

    def pixels(self, view: FrameView) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """(F, H, W[, 3]) uint8 and (F,) seconds, of the complete frames that have a time."""
        index = self.views.index(view)
        width, height = self.sizes.get(index, (1, 1))
        tail = (height, width) if view.gray else (height, width, 3)
        size = width * height * view.channels
        data, times = self._data(index), self.times.get(index, [])
        count = min(len(data) // size, len(times))
        pixels = data[: count * size].reshape(count, *tail)
        return pixels, np.maximum(np.asarray(times[:count], dtype=np.float64), 0.0)

    def last_frame_s(self, view: FrameView) -> float:
        """Duration of the last frame in the stream, in seconds; 0 where it isn't given."""
        return self.last_frame_durations.get(self.views.index(view), 0.0)

    def samples(self, rate: int) -> NDArray[np.float32]:
        """(N,) float32 mono."""
        data = self._data(len(self.views) + self.rates.index(rate))
        return data[: len(data) // 4 * 4].view("<f4")

    def _data(self, index: int) -> Bytes:
        return self.outputs.get(index, np.zeros(0, np.uint8))


@dataclass(frozen=True)
class Decoder:
    """Decodes one clip with one ffmpeg process, and a second one only where a stream is absent."""

    path: Path
    views: tuple[FrameView, ...]
    rates: tuple[int, ...]
    limits: MediaLimits
    start: float | None
    end: float | None

    def run(self) -> DecodedStreams:
        """Decode; raises MediaError where the file is no media or over a limit.

        The first attempt maps both kinds of stream, since most files have both. ffmpeg refuses
        a file that lacks one before it decodes anything, and its log lists the streams there are.
        """
        streams = self._attempt(video=bool(self.views), audio=bool(self.rates))
        video = bool(self.views) and streams.has_video
        audio = bool(self.rates) and streams.has_audio
        if (video, audio) == (bool(self.views), bool(self.rates)):
            return streams
        if not (streams.has_video or streams.has_audio):
            raise MediaError(f"no video and no audio stream; {streams.first_error}")
        return self._attempt(video, audio) if video or audio else streams

    def _attempt(self, video: bool, audio: bool) -> DecodedStreams:
        views, rates = self.views if video else (), self.rates if audio else ()
        streams = DecodedStreams(views=views, rates=rates)
        with Spool(
            self.limits.memory_mb, self.limits.max_output_mb, self.limits.spool_folder
        ) as spool:
            self._run_ffmpeg(streams, spool)
            streams.outputs = spool.finish()
        return streams

    def _run_ffmpeg(self, streams: DecodedStreams, spool: Spool) -> None:
        """Run ffmpeg; its outputs go to `spool`, the facts in its log to `streams`."""
        views, rates = streams.views, streams.rates
        pipes = [os.pipe() for _ in range(len(views) + len(rates))]
        errors: list[M2hfError] = []
        try:
            process = subprocess.Popen(
                self._command(views, rates, [write for _, write in pipes]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[write for _, write in pipes],
            )
        finally:
            for _, write in pipes:
                os.close(write)

        def stop(error: M2hfError) -> None:
            errors.append(error)
            process.kill()

        timer = threading.Timer(
            self.limits.timeout_s,
            stop,
            [MediaError(f"over the limit of {self.limits.timeout_s:g} s to decode")],
        )
        readers = [
            threading.Thread(target=_drain, args=(read, i, spool, stop))
            for i, (read, _) in enumerate(pipes)
        ]
        for thread in (timer, *readers):
            thread.start()
        assert process.stderr is not None
        with process.stderr as log:
            for line in _lines(log):
                problem = self._read_log(line, streams)
                if problem:
                    stop(MediaError(problem))
        process.wait()
        timer.cancel()
        for thread in (timer, *readers):
            thread.join()
        if errors:
            raise errors[0]

    def _read_log(self, line: str, streams: DecodedStreams) -> str | None:
        """Parse one line of the log into `streams`; an error message where decoding must stop."""
        if match := _SHOWINFO.search(line):
            index = int(match[1])
            streams.times.setdefault(index, []).append(float(match[2]))
            streams.sizes[index] = (int(match[3]), int(match[4]))
            duration = _FRAME_DURATION.search(line)
            streams.last_frame_durations[index] = float(duration[1]) if duration else 0.0
        elif match := _DURATION.match(line):
            return self._read_duration(match, streams)
        elif match := _STREAM.match(line):
            if match[1] == "Audio":
                streams.has_audio = True
            elif "(attached pic)" not in match[2]:  # cover art is no video stream
                streams.has_video = True
                size = _PIXELS.search(match[2])
                if size and int(size[1]) * int(size[2]) > self.limits.max_pixels:
                    return (
                        f"frames of {size[0]} are over the limit of {self.limits.max_pixels} pixels"
                    )
        elif not streams.first_error and _PROBLEM.search(line):
            plain = _ADDRESS.sub("", line).strip()
            streams.first_error = plain.replace(str(self.path.absolute()), self.path.name)
        return None

    def _read_duration(self, match: re.Match[str], streams: DecodedStreams) -> str | None:
        total = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
        start, end = self.start or 0.0, self.end if self.end is not None else total
        if start >= total:
            return f"start {start:g} s is after the end of the file ({total:g} s)"
        streams.expected_s = min(end, total) - start
        if streams.expected_s > self.limits.max_duration_s:
            return (
                f"{streams.expected_s:.0f} s long, over the limit of "
                f"{self.limits.max_duration_s:g} s"
            )
        return None

    def _command(
        self, views: tuple[FrameView, ...], rates: tuple[int, ...], pipes: list[int]
    ) -> list[str]:
        import ffmpeg

        options: dict[str, Any] = {
            "protocol_whitelist": "file,pipe",
            "format_whitelist": _CONTAINERS,
            "threads": 1,  # workers are the parallelism
        }
        if self.start is not None:
            options["ss"] = self.start
        if self.end is not None:
            options["t"] = self.end - (self.start or 0.0)
        # "file:" keeps a name such as "concat:a|b" or "-i" from meaning anything else.
        source = ffmpeg.input(f"file:{self.path.absolute()}", **options)
        outputs = []
        frames = source["V:0"].filter_multi_output("split", len(views)) if views else None
        for index, view in enumerate(views):
            assert frames is not None
            outputs.append(
                _resampled(frames[index], view)
                .filter(f"showinfo@v{index}", checksum=0)
                .output(f"pipe:{pipes[index]}", format="rawvideo", fps_mode="passthrough")
            )
        sounds = source["a:0"].filter_multi_output("asplit", len(rates)) if rates else None
        for index, rate in enumerate(rates):
            assert sounds is not None
            outputs.append(
                sounds[index]
                .filter("aresample", rate, **_MONO)
                .output(f"pipe:{pipes[len(views) + index]}", format="f32le", acodec="pcm_f32le")
            )
        if not outputs:
            outputs = [source.output("-", format="null")]
        compiled = ffmpeg.merge_outputs(*outputs).compile(cmd=[ffmpeg_exe()])
        return [compiled[0], "-hide_banner", "-nostdin", "-nostats", "-y", *compiled[1:]]


def _resampled(stream: Any, view: FrameView) -> Any:
    """Filters: the first frame of each 1/fps seconds, at its own time, with square pixels."""
    cell = f"floor({{}}*{view.fps!r}+1e-6)"
    first = f"isnan(prev_t)+gt({cell.format('t')},{cell.format('prev_t')})"
    stream = stream.filter("select", first)
    if view.size is not None:
        stream = stream.filter("scale", *view.size, flags="area")
    else:
        shrink = f"min(1,{view.max_side}/max(iw*sar,ih))"
        stream = stream.filter(
            "scale",
            f"max(2,round(iw*sar*{shrink}))",
            f"max(2,round(ih*{shrink}))",
            flags="bicubic+accurate_rnd+full_chroma_int",
        )
    return stream.filter("setsar", 1).filter("format", "gray" if view.gray else "rgb24")


def _drain(read: int, output: int, spool: Spool, stop: Callable[[M2hfError], None]) -> None:
    with os.fdopen(read, "rb", buffering=0) as pipe:
        try:
            while chunk := pipe.read(_CHUNK):
                spool.append(output, chunk)
        except M2hfError as error:  # raised in a thread, it would be lost
            stop(error)


def _lines(log: Any) -> Iterator[str]:
    for raw in log:
        yield raw.decode("utf-8", errors="replace").rstrip()
