"""Frames of a clip as unit vectors of the CLIP joint space."""

from typing import ClassVar

from pydantic import Field

from m2hf.extract.base import NO_VIDEO, BatchedSession, MediaExtractor, Prepared
from m2hf.extract.inference.batching import DeviceBatches, RowQueue
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.views import ColourView, FrameView
from m2hf.extract.networks.encoder import JointSpaceExtractor, unit
from m2hf.extract.networks.learned import Precision
from m2hf.extract.networks.preprocessing import ImageTower, Resize
from m2hf.features import Features


class Clip(JointSpaceExtractor, MediaExtractor):
    """Up to `max_frames` frames, evenly over the clip, from one each 1/fps seconds (CLIP4Clip's
    sampling). Values (F, D): L2-normalised image embeddings.

    batch: frames at once, of as many clips as fill it; precision: bfloat16 where it is faster
    (that this model's vectors stay the same is checked when it is opened); resize: by torch, on
    8-bit colours, or by Pillow, as open_clip does, which takes several times as long.
    """

    name: ClassVar[str] = "clip"
    revision: ClassVar[int] = 2
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "open_clip_torch", "pillow", "torch")

    view: ColourView = FrameView(fps=1.0, max_side=640)
    max_frames: int = Field(default=12, ge=1)
    batch: int = Field(default=16, ge=1)
    precision: Precision = "float32"
    resize: Resize = "torch"

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def open(self, device: str) -> "ClipSession":
        return ClipSession(self, device)


class ClipSession(BatchedSession):
    def __init__(self, declared: Clip, device: str) -> None:
        self._declared = declared
        self._tower = ImageTower(declared.encoder, device, declared.precision, declared.resize)
        network = DeviceBatches(self._tower.forward, declared.batch, device, "extract.clip")
        super().__init__(RowQueue(network, declared.batch, device))

    def prepare(self, clip: DecodedClip) -> Features | Prepared:
        frames = clip.frames(self._declared.view)
        if frames is None:
            return Features.empty(NO_VIDEO, self._tower.width)
        frames = frames.take(self._declared.max_frames)
        start_s, end_s = frames.start_s, frames.end_s
        return Prepared(
            self._tower.prepare(frames.pixels),
            lambda values: Features(unit(values), start_s, end_s),
        )
