"""One ffmpeg process a clip: frames with their times, and mono sound, from one decode.

Every view of the pictures and every rate of the sound is one output of the same process, so a
clip is decoded once however many extractors read it. Times are the stream's own, in seconds
from the start of the clip; rotation and non-square pixels are applied; sound is padded so that
sample 0 is time 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import MediaError
from m2hf.extract.media.ffmpeg_process import Decoder, Recording
from m2hf.extract.media.views import FrameView, MediaLimits
from m2hf.keys import sha256_file

_SLACK_S = 1.0  # streams of a sound file seldom end together, but never this far apart
DECODE_REVISION = 2  # raise when the same file would give other frames, times or samples


@dataclass(frozen=True, eq=False)
class Frames:
    """pixels: (F, H, W, 3) uint8, or (F, H, W) where gray; start_s, end_s: (F,) seconds."""

    pixels: NDArray[np.uint8]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

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
    """samples: (N,) float32 mono in -1..1; rate: samples a second."""

    samples: NDArray[np.float32]
    rate: int

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate


@dataclass(frozen=True, eq=False)
class DecodedClip:
    """A clip, in memory or mapped, so look at parts of it and change none. duration_s: what the
    file says of itself, else what was decoded."""

    duration_s: float
    sha256: str
    _frames: Mapping[FrameView, Frames] | None
    _sounds: Mapping[int, Sound] | None

    def frames(self, view: FrameView) -> Frames | None:
        """The pictures of a view; None where the file has no video stream.

        Raises MediaError where there is a stream and not one frame of it could be decoded.
        """
        if self._frames is None:
            return None
        if not len(self._frames[view]):
            raise MediaError("the video stream gave no frame; the file is damaged")
        return self._frames[view]

    def sound(self, rate: int) -> Sound | None:
        """The sound at `rate`; None where the file has no audio stream.

        Raises MediaError where there is a stream and not one sample of it could be decoded.
        """
        if self._sounds is None:
            return None
        if not len(self._sounds[rate].samples):
            raise MediaError("the audio stream gave no sample; the file is damaged")
        return self._sounds[rate]

    def remark(self, views: Sequence[FrameView], rates: Sequence[int]) -> str:
        """Which of these ends before the clip does, as in a file that breaks off; "" if none.

        A reader is told of what it reads and of nothing else: what its features say must not
        depend on who shared the decode.
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

    Raises MediaError for a file that is missing, empty, no media, over a limit, or without one
    good frame or sample; ResourceError where memory or disk hold no more. A file that breaks off
    keeps what is good (see `remark`).
    """
    limits = limits or MediaLimits()
    if not path.is_file():
        raise MediaError(f"no such file: {path.name}")
    if path.stat().st_size == 0:
        raise MediaError("the file is empty (0 bytes)")
    recording = Decoder(path, tuple(views), tuple(rates), limits, start, end).run()
    frames = {view: _frames(recording, view) for view in views} if recording.has_video else None
    sounds = None
    if recording.has_audio:
        sounds = {r: Sound(recording.samples(r), r) for r in rates}
    reached = max(
        [0.0]
        + [float(f.end_s[-1]) for f in (frames or {}).values() if len(f)]
        + [s.duration_s for s in (sounds or {}).values()]
    )
    if reached == 0.0 and (views or rates) and (frames or sounds):
        raise MediaError(f"nothing could be decoded; {recording.first_error}")
    duration = max(recording.expected_s or 0.0, reached)
    return DecodedClip(duration, _digest(path), frames, sounds)


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:  # a bad sector, a share that went away
        raise MediaError(f"can't be read: {error.strerror}") from error


def _frames(recording: Recording, view: FrameView) -> Frames:
    pixels, start_s = recording.pixels(view)
    # A frame lasts until the next one is shown; the last one for a grid step, or for as long as
    # its stream says, inside the clip.
    last = start_s[-1:] + max(1 / view.fps, recording.last_frame_s(view))
    if recording.expected_s is not None:
        last = np.minimum(last, max(recording.expected_s, *start_s[-1:], 0.0))
    return Frames(pixels, start_s, np.concatenate([start_s[1:], last]))
