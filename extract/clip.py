"""Frames of a clip as unit vectors in the CLIP joint space."""

from typing import ClassVar

from pydantic import Field

from m2hf.extract.base import BatchedSession, MediaExtractor, PreparedClip
from m2hf.extract.inference.batching import DeviceBatches, RowQueue
from m2hf.extract.inference.precision import Precision
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.views import ColourView, FrameView
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.networks.joint_space import JointSpaceExtractor
from m2hf.extract.networks.preprocessing import ImageTower, Resize
from m2hf.features import Features, unit_rows
from m2hf.streams import CLIP


class FrameEncoder(JointSpaceExtractor, MediaExtractor):
    """Values (F, D): L2-normalised CLIP image embeddings of F frames, evenly over the clip.

    Frames are sampled as in CLIP4Clip.
    """

    name: ClassVar[str] = CLIP
    revision: ClassVar[int] = 4
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "torch")

    encoder: Encoder = Encoder()
    """The CLIP that encodes; by default, that of `extract.encoder` where this is one."""

    view: ColourView = FrameView(fps=1.0, max_side=640)
    """The frames to choose from."""

    max_frames: int = Field(default=12, ge=1, le=1 << 16)
    """Most frames per clip; of more, the middles of as many equal parts are chosen."""

    batch: int = Field(default=16, ge=1, le=1 << 12)
    """Frames per batch; on a GPU it is filled from several clips, on a CPU from one."""

    precision: Precision = "float32"
    """float32, or bfloat16, which is faster where the hardware supports it; auto: the first run of
    a store measures both on a clip, and keeps bfloat16 where it is faster and each vector's cosine
    to float32's is at least 0.999. The store and its fingerprints have the choice."""

    resize: Resize = "torch"
    """Library that resizes frames: torch, on 8-bit values, or pillow, exactly as open_clip does
    but several times slower."""

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def open(self, device: str) -> "FrameEncoderSession":
        return FrameEncoderSession(self, device)


class FrameEncoderSession(BatchedSession):
    def __init__(self, declared: FrameEncoder, device: str) -> None:
        self._declared = declared
        self._tower = ImageTower(declared.encoder, device, declared.precision, declared.resize)
        network = DeviceBatches(self._tower.forward, declared.batch, device, "extract.clip")
        super().__init__(RowQueue(network, declared.batch, device))

    def prepare(self, clip: DecodedClip) -> Features | PreparedClip:
        frames = clip.frames(self._declared.view)
        if isinstance(frames, Absent):
            return Features.empty(frames.reason, self._tower.width)
        frames = frames.evenly(self._declared.view.fps, self._declared.max_frames)
        start_s, end_s = frames.start_s, frames.end_s
        return PreparedClip(
            self._tower.prepare(frames.pixels),
            lambda values: Features(unit_rows(values), start_s, end_s),
        )
