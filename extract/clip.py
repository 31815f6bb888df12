"""Frames of a clip as unit vectors of the CLIP joint space."""

from typing import ClassVar

from pydantic import Field

from m2hf.extract.base import NO_VIDEO, MediaExtractor, MediaSession
from m2hf.extract.encoder import InJointSpace
from m2hf.extract.media import DecodedClip, FrameView
from m2hf.features import Features


class Clip(InJointSpace, MediaExtractor):
    """Up to `max_frames` frames, evenly over the clip, from one each 1/fps seconds (CLIP4Clip's
    sampling). Values (F, D): L2-normalised image embeddings."""

    name: ClassVar[str] = "clip"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "open_clip_torch", "pillow", "torch")

    view: FrameView = FrameView(fps=1.0, max_side=640)
    max_frames: int = Field(default=12, ge=1)
    batch: int = Field(default=32, ge=1)

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def open(self, device: str) -> "ClipSession":
        return ClipSession(self, device)


class ClipSession(MediaSession):
    def __init__(self, declared: Clip, device: str) -> None:
        self._declared = declared
        self._model = declared.encoder.open(device)

    def extract(self, clip: DecodedClip) -> Features:
        frames = clip.frames(self._declared.view)
        if frames is None:
            return Features.empty(NO_VIDEO, self._model.width)
        frames = frames.take(self._declared.max_frames)
        values = self._model.encode_pictures(frames.pixels, self._declared.batch)
        return Features(values, frames.start_s, frames.end_s)
