"""Thumbnails of a clip as JPEG files, for HTML pages that show a video without its file."""

import io
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from m2hf.extract.base import MediaExtractor, MediaSession
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.views import FrameView
from m2hf.features import Features
from m2hf.streams import THUMBNAIL
from m2hf.thumbnails import as_string

_FPS = 1.0  # as in the default view of `clip`, so that their frames are at the same times


class Thumbnailer(MediaExtractor):
    """F thumbnails, evenly over the clip: each a JPEG file, stored in base64 as a string of the
    shard (`m2hf.thumbnails`). Values (F, 3): the mean colour, 0..1.

    Fusion doesn't read it, so it only runs where --only or extract.extractors names it.
    """

    name: ClassVar[str] = THUMBNAIL
    revision: ClassVar[int] = 2
    columns: ClassVar[tuple[str, ...]] = ("red", "green", "blue")
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    texts: ClassVar[bool] = True

    max_frames: int = Field(default=4, ge=1, le=1 << 16)
    """Most thumbnails per clip, chosen from one frame per second."""

    max_side: int = Field(default=160, ge=16, le=1024)
    """Longer side in pixels; smaller frames are not enlarged."""

    quality: int = Field(default=80, ge=1, le=95)
    """JPEG quality, on Pillow's scale."""

    @property
    def view(self) -> FrameView:
        """The frames to choose from."""
        return FrameView(fps=_FPS, max_side=self.max_side)

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def open(self, device: str) -> "ThumbnailerSession":
        return ThumbnailerSession(self)


class ThumbnailerSession(MediaSession):
    def __init__(self, declared: Thumbnailer) -> None:
        self._declared = declared

    def extract(self, clip: DecodedClip) -> Features:
        declared = self._declared
        frames = clip.frames(declared.view)
        if isinstance(frames, Absent):
            return Features.empty(frames.reason, declared.width, texts=True)
        frames = frames.at_most(_FPS, declared.max_frames)
        colours_F3 = [frame.mean(axis=(0, 1), dtype=np.float64) for frame in frames.pixels]
        return Features(
            (np.stack(colours_F3) / 255).astype(np.float32),
            frames.start_s,
            frames.end_s,
            texts=tuple(as_string(jpeg(frame, declared.quality)) for frame in frames.pixels),
            confidence=np.ones(len(frames)),
        )


def jpeg(pixels_HW3: NDArray[Any], quality: int) -> bytes:
    """A uint8 RGB image as a JPEG file; equal pixels give equal bytes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels_HW3).save(stream, "JPEG", quality=quality)
    return stream.getvalue()
