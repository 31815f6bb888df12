"""Decodes a clip once: its frames with their times, and its sound as mono samples.

Each view of the frames and each sample rate is one output of the same ffmpeg process, however
many extractors share the decode. Times are the stream's own, in seconds from the start of the
clip; rotation is applied and pixels are made square; sound is padded so that sample 0 is time 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from m2hf.errors import MediaError
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.reading import SLACK_S, ClipReader, Part
from m2hf.extract.media.sound import Sound
from m2hf.extract.media.views import FrameView, MediaLimits
from m2hf.keys import sha256_file

DECODE_REVISION = 3  # to be raised when the same file would give other frames, times or samples


@dataclass(frozen=True, eq=False)
class DecodedClip:
    """A decoded clip, read-only; its data is in memory, or memory-mapped from a file."""

    duration_s: float
    """Seconds: to the end of its video or its sound, whichever is later, or, where the file breaks
    off, to the end that its header states."""

    sha256: str
    """Digest of the file."""

    _frames: Mapping[FrameView, Frames] | Absent | MediaError
    _sounds: Mapping[int, Sound] | Absent | MediaError
    _video_remark: str = ""

    @property
    def damaged(self) -> bool:
        """Whether a stream of it can't be decoded."""
        return isinstance(self._frames, MediaError) or isinstance(self._sounds, MediaError)

    def frames(self, view: FrameView) -> Frames | Absent:
        """The frames of a view, at least one; Absent where the clip has no video.

        Raises MediaError where there is a stream but none of its frames could be decoded.
        """
        if isinstance(self._frames, MediaError):
            raise self._frames
        return self._frames if isinstance(self._frames, Absent) else self._frames[view]

    def sound(self, rate: int) -> Sound | Absent:
        """The sound at `rate`, at least one sample; Absent where the clip has no sound.

        Raises MediaError where there is a stream but none of its samples could be decoded.
        """
        if isinstance(self._sounds, MediaError):
            raise self._sounds
        return self._sounds if isinstance(self._sounds, Absent) else self._sounds[rate]

    def remark(self, views: Sequence[FrameView], rates: Sequence[int]) -> str:
        """What the features should say of these streams: which of several was read, and which end
        before the clip, as in a truncated file; "" if nothing.

        Only the given views and rates count, so that the remark in an extractor's features doesn't
        depend on which other extractors shared the decode.
        """
        remarks = []
        if views and isinstance(self._frames, Mapping):
            remarks.append(self._video_remark)
            reached_s = max(float(self._frames[view].end_s[-1]) for view in views)
            remarks.append(self._early_end("the frames end", reached_s))
        if rates and isinstance(self._sounds, Mapping):
            remarks += dict.fromkeys(self._sounds[rate].remark for rate in rates)
            reached_s = max(self._sounds[rate].duration_s for rate in rates)
            remarks.append(self._early_end("the sound ends", reached_s))
        return "; ".join(filter(None, remarks))

    def _early_end(self, what: str, reached_s: float) -> str:
        if reached_s + SLACK_S >= self.duration_s:
            return ""
        return f"{what} at {reached_s:.1f} of {self.duration_s:.1f} s"


def decode(
    path: Path,
    views: Sequence[FrameView] = (),
    rates: Sequence[int] = (),
    limits: MediaLimits | None = None,
    start: float | None = None,
    end: float | None = None,
) -> DecodedClip:
    """Decode `path`, or the part of it from `start` to `end` seconds, once.

    Raises MediaError for a file that is missing, empty, no media, or over a limit; ResourceError
    where memory or disk space run out. A stream of which nothing could be decoded is an error
    where it is used, so that it doesn't take the other one with it. Of a truncated file, the part
    that could be decoded is returned (see `remark`).
    """
    limits = limits or MediaLimits()
    if not path.is_file():
        raise MediaError(f"no such file: {path.name}")
    if path.stat().st_size == 0:
        raise MediaError("the file is empty (0 bytes)")
    reader = ClipReader(path, tuple(views), tuple(rates), limits, Part(start or 0.0, end))
    clip = reader.read()
    return DecodedClip(clip.duration_s, _digest(path), clip.frames, clip.sounds, clip.video_remark)


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:  # such as a bad sector, or a network share that is gone
        raise MediaError(f"can't be read: {error.strerror}") from error
