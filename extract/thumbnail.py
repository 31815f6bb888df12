"""Small pictures for the eye: what a page shows of a video without its file."""

import io
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from m2hf.extract.base import NO_VIDEO, MediaExtractor, MediaSession
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.views import FrameView
from m2hf.features import Features
from m2hf.streams import THUMBNAIL
from m2hf.thumbnails import as_string

_FPS = 1.0  # of the grid that `clip` chooses its frames from, so that times fall together


class Thumbnail(MediaExtractor):
    """Up to `max_frames` pictures, evenly over the clip, from one a second. Each is a JPEG file,
    in base64 as a string of the shard (`m2hf.thumbnails`); values (F, 3): its mean colour, 0..1.

    max_side: pixels of the longer side, never enlarged; quality: of the JPEG, as Pillow counts.
    No part of the fusion reads it, so it runs where --only or extract.extractors names it.
    """

    name: ClassVar[str] = THUMBNAIL
    columns: ClassVar[tuple[str, ...]] = ("red", "green", "blue")
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    texts: ClassVar[bool] = True

    max_frames: int = Field(default=4, ge=1)
    max_side: int = Field(default=160, ge=16, le=1024)
    quality: int = Field(default=80, ge=1, le=95)

    @property
    def width(self) -> int:
        return len(self.columns)

    @property
    def view(self) -> FrameView:
        """What it looks at."""
        return FrameView(fps=_FPS, max_side=self.max_side)

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def open(self, device: str) -> "ThumbnailSession":
        return ThumbnailSession(self)


class ThumbnailSession(MediaSession):
    def __init__(self, declared: Thumbnail) -> None:
        self._declared = declared

    def extract(self, clip: DecodedClip) -> Features:
        declared = self._declared
        frames = clip.frames(declared.view)
        if frames is None:
            return Features.empty(NO_VIDEO, declared.width, texts=True)
        frames = frames.take(declared.max_frames)
        colours_F3 = [picture.mean(axis=(0, 1), dtype=np.float64) for picture in frames.pixels]
        return Features(
            (np.stack(colours_F3) / 255).astype(np.float32),
            frames.start_s,
            frames.end_s,
            texts=tuple(as_string(jpeg(picture, declared.quality)) for picture in frames.pixels),
            confidence=np.ones(len(frames)),
        )


def jpeg(pixels_HW3: NDArray[Any], quality: int) -> bytes:
    """A uint8 RGB picture as a JPEG file; equal pixels give equal bytes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels_HW3).save(stream, "JPEG", quality=quality)
    return stream.getvalue()
