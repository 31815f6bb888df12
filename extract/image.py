"""Frames of a clip as pooled features of an image network (timm)."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from m2hf.extract.base import BatchedSession, MediaExtractor, PreparedClip
from m2hf.extract.inference.batching import DeviceBatches, RowQueue
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.views import ColourView, FrameView
from m2hf.extract.networks.image_network import ImageNetwork
from m2hf.extract.networks.preprocessing import Resize
from m2hf.extract.weights.weight import Weight
from m2hf.features import Features
from m2hf.streams import IMAGE


class ImageFeatures(MediaExtractor):
    """Values (F, D): of F frames, evenly over the clip, the input of the classifier of an image
    network. Their space is their own: fusion projects them (`fuse.project`)."""

    name: ClassVar[str] = IMAGE
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "timm", "torch")
    network: ClassVar[bool] = True

    backbone: ImageNetwork = ImageNetwork()
    """The image network."""

    view: ColourView = FrameView(fps=1.0, max_side=640)
    """The frames to choose from."""

    max_frames: int = Field(default=12, ge=1, le=1 << 16)
    """Most frames per clip; of more, the middles of as many equal parts are chosen."""

    batch: int = Field(default=16, ge=1, le=1 << 12)
    """Frames per batch; on a GPU it is filled from several clips, on a CPU from one."""

    resize: Resize = "torch"
    """Library that resizes frames: torch, on 8-bit values, or pillow, exactly as timm does but
    several times slower."""

    @property
    def width(self) -> int:
        return self.backbone.width

    def needs(self) -> tuple[Weight, ...]:
        return self.backbone.needs()

    def weights(self) -> Mapping[str, str]:
        return self.backbone.weights()

    def flags(self) -> tuple[str, ...]:
        return self.backbone.flags()

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def open(self, device: str) -> "ImageFeaturesSession":
        return ImageFeaturesSession(self, device)


class ImageFeaturesSession(BatchedSession):
    def __init__(self, declared: ImageFeatures, device: str) -> None:
        self._declared = declared
        network = declared.backbone.open(device)
        self._preprocessing = network.preprocessing(declared.resize)
        batches = DeviceBatches(
            lambda images: network.forward(self._preprocessing.normalise(images)),
            declared.batch,
            device,
            f"extract.{declared.name}",
        )
        super().__init__(RowQueue(batches, declared.batch, device))

    def prepare(self, clip: DecodedClip) -> Features | PreparedClip:
        declared = self._declared
        frames = clip.frames(declared.view)
        if isinstance(frames, Absent):
            return Features.empty(frames.reason, declared.width)
        frames = frames.evenly(declared.view.fps, declared.max_frames)
        start_s, end_s = frames.start_s, frames.end_s
        return PreparedClip(
            self._preprocessing.prepare(frames.pixels),
            lambda values: Features(values, start_s, end_s),
        )
