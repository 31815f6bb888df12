"""Decodes a clip once: its frames with their times, and its sound as mono samples.

Each view of the frames and each sample rate is one output of the same ffmpeg process, however
many extractors share the decode. Times are the stream's own, in seconds from the start of the
clip; rotation is applied and pixels are made square; sound is padded so that sample 0 is time 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import MediaError
from m2hf.extract.media.ffmpeg_process import DecodedStreams, Decoder
from m2hf.extract.media.views import FrameView, MediaLimits
from m2hf.keys import sha256_file

_SLACK_S = 1.0  # streams of an intact file may end at different times, but not this far apart
DECODE_REVISION = 2  # to be raised when the same file would give other frames, times or samples


@dataclass(frozen=True, eq=False)
class Frames:
    """F frames of one view of a clip, in time order."""

    pixels: NDArray[np.uint8]
    """(F, H, W, 3) RGB, or (F, H, W) where the view is grey."""

    start_s: NDArray[np.float64]
    """(F,) seconds from the start of the clip."""

    end_s: NDArray[np.float64]
    """(F,) seconds: the start of the next frame; for the last one, its own end."""

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, count: int) -> "Frames":
        """At most `count` frames: the middles of as many equal parts of the clip."""
        n = len(self)
        if n <= count:
            return self
        chosen = ((np.arange(count) + 0.5) * n / count).astype(int)
        return Frames(self.pixels[chosen], self.start_s[chosen], self.end_s[chosen])


@dataclass(frozen=True, eq=False)
class Sound:
    """The sound of a clip at one sample rate."""

    samples: NDArray[np.float32]
    """(N,) mono, in -1..1."""

    rate: int
    """Samples per second."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate


@dataclass(frozen=True, eq=False)
class DecodedClip:
    """A decoded clip, read-only; its data is in memory, or memory-mapped from a file."""

    duration_s: float
    """Seconds, from the file's header or from what was decoded, whichever is longer."""

    sha256: str
    """Digest of the file."""

    _frames: Mapping[FrameView, Frames] | None
    _sounds: Mapping[int, Sound] | None

    def frames(self, view: FrameView) -> Frames | None:
        """The frames of a view; None where the file has no video stream.

        Raises MediaError where there is a stream but none of its frames could be decoded.
        """
        if self._frames is None:
            return None
        if not len(self._frames[view]):
            raise MediaError("no frame of the video stream could be decoded; the file is damaged")
        return self._frames[view]

    def sound(self, rate: int) -> Sound | None:
        """The sound at `rate`; None where the file has no audio stream.

        Raises MediaError where there is a stream but none of its samples could be decoded.
        """
        if self._sounds is None:
            return None
        if not len(self._sounds[rate].samples):
            raise MediaError("no sample of the audio stream could be decoded; the file is damaged")
        return self._sounds[rate]

    def remark(self, views: Sequence[FrameView], rates: Sequence[int]) -> str:
        """Which of these streams end before the clip, as in a truncated file; "" if none.

        Only the given views and rates count, so that the remark in an extractor's features doesn't
        depend on which other extractors shared the decode.
        """
        frames = [] if self._frames is None else [self._frames[view] for view in views]
        sounds = [] if self._sounds is None else [self._sounds[rate] for rate in rates]
        ends = {
            "the pictures end": [float(f.end_s[-1]) for f in frames if len(f)],
            "the sound ends": [sound.duration_s for sound in sounds],
        }
        return "; ".join(
            f"{what} at {max(reached):.1f} of {self.duration_s:.1f} s"
            for what, reached in ends.items()
            if reached and max(reached) + _SLACK_S < self.duration_s
        )


def decode(
    path: Path,
    views: Sequence[FrameView] = (),
    rates: Sequence[int] = (),
    limits: MediaLimits | None = None,
    start: float | None = None,
    end: float | None = None,
) -> DecodedClip:
    """Decode `path`, or the part of it from `start` to `end` seconds, once.

    Raises MediaError for a file that is missing, empty, no media, over a limit, or of which no
    frame or sample could be decoded; ResourceError where memory or disk space run out. Of a
    truncated file, the part that could be decoded is returned (see `remark`).
    """
    limits = limits or MediaLimits()
    if not path.is_file():
        raise MediaError(f"no such file: {path.name}")
    if path.stat().st_size == 0:
        raise MediaError("the file is empty (0 bytes)")
    streams = Decoder(path, tuple(views), tuple(rates), limits, start, end).run()
    frames = {view: _frames(streams, view) for view in views} if streams.has_video else None
    sounds = {r: Sound(streams.samples(r), r) for r in rates} if streams.has_audio else None
    reached = max(
        [0.0]
        + [float(f.end_s[-1]) for f in (frames or {}).values() if len(f)]
        + [s.duration_s for s in (sounds or {}).values()]
    )
    if reached == 0.0 and (views or rates) and (frames or sounds):
        raise MediaError(f"nothing could be decoded; {streams.first_error}")
    duration = max(streams.expected_s or 0.0, reached)
    return DecodedClip(duration, _digest(path), frames, sounds)


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:  # such as a bad sector, or a network share that is gone
        raise MediaError(f"can't be read: {error.strerror}") from error


def _frames(streams: DecodedStreams, view: FrameView) -> Frames:
    pixels, start_s = streams.pixels(view)
    # A frame lasts until the next one starts; the last one for 1/fps seconds, or its duration in
    # the stream if that is longer, but not beyond the end of the clip.
    last = start_s[-1:] + max(1 / view.fps, streams.last_frame_s(view))
    if streams.expected_s is not None:
        last = np.minimum(last, max(streams.expected_s, *start_s[-1:], 0.0))
    return Frames(pixels, start_s, np.concatenate([start_s[1:], last]))
