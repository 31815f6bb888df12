"""Motion as embeddings of a network trained on videos, one row per window."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from m2hf.errors import ConfigError
from m2hf.extract.base import MediaSession
from m2hf.extract.inference.windows import Windows
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.views import FrameView
from m2hf.extract.networks import hub_video, video_networks
from m2hf.extract.networks.learned import LearnedExtractor, WindowNetwork
from m2hf.extract.networks.video_networks import (
    NETWORKS,
    WINDOW,
    VideoNetworkByName,
    VideoWindow,
)
from m2hf.extract.weights.weight import Weight
from m2hf.features import Features


class Motion(LearnedExtractor):
    """Values (L, D): for each window, the input of the classifier of R(2+1)D-18 (D 512) or S3D
    (D 1024), or what a network of transformers pools: VideoMAE and V-JEPA 2 the mean of its tokens,
    TimeSformer its class token, X-CLIP its video vector. A clip shorter than a window is padded
    with its last frame."""

    name: ClassVar[str] = "motion"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch", "torchvision")
    tag: ClassVar[str] = video_networks.TAG

    model: str = "r2plus1d_18"
    """torchvision's name of the network, r2plus1d_18 or s3d; or the name of a VideoMAE, V-JEPA 2,
    TimeSformer or X-CLIP on the Hugging Face hub, such as microsoft/xclip-base-patch32."""

    pretrained: str = tag
    """Weights: `kinetics400` for the published ones; a path, for torchvision's networks a state
    dict (.pth or .safetensors), else a folder as transformers saves it; or "" for random weights,
    drawn from `seed`."""

    fps: float = Field(default=0.0, ge=0.0, le=60.0, validate_default=True)
    """Frames per second that the network reads; 0: those of its training, 15 for torchvision's."""

    frames: int = Field(default=0, ge=0, le=256, validate_default=True)
    """Frames per window; 0: those of its training, 16 for torchvision's networks, which read 16 to
    32. V-JEPA 2 reads any even number, the others of transformers only their own."""

    overlap: float = Field(default=0.0, ge=0.0, le=0.99)
    """Overlap of consecutive windows, as a share of their length."""

    @field_validator("fps", "frames")
    @classmethod
    def _of_training(cls, value: int | float, info: ValidationInfo) -> int | float:
        """torchvision's are written out; those of a model's files are in its weights."""
        if value or info.data.get("model") not in NETWORKS:
            return value
        return WINDOW.fps if info.field_name == "fps" else WINDOW.frames

    @field_validator("frames")
    @classmethod
    def _readable(cls, frames: int, info: ValidationInfo) -> int:
        if frames and info.data.get("model") in NETWORKS and not WINDOW.allows(frames):
            raise ValueError(f"expected {WINDOW.least} to {WINDOW.most}")
        return frames

    @property
    def _chosen(self) -> VideoNetworkByName:
        return hub_video.named(self.model)

    @property
    def width(self) -> int:
        return self._chosen.width(self.files())

    def require_fit(self) -> None:
        self.window()

    def window(self) -> VideoWindow:
        """What it reads; raises ConfigError for `frames` that the network can't read."""
        own = self._chosen.window(self.files())
        frames = self.frames or own.frames
        if not own.allows(frames):
            span = str(own.least)
            if own.least < own.most:
                span += f" to {own.most}, a multiple of {own.step}"
            raise ConfigError(f"extract.motion.frames = {frames}: {self.model} reads {span}")
        return VideoWindow(self.fps or own.fps, frames, own.least, own.most, own.step)

    @property
    def view(self) -> FrameView:
        return FrameView(fps=self.window().fps, **self._chosen.scaling)

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def needs(self) -> tuple[Weight, ...]:
        return self._chosen.needs(self.path) if self.pretrained else ()

    def open(self, device: str) -> "MotionSession":
        return MotionSession(self, device)


class MotionSession(MediaSession):
    def __init__(self, declared: Motion, device: str) -> None:
        self._view, self._width, self._window = declared.view, declared.width, declared.window()
        loaded = hub_video.load(declared.model, declared.files(), declared.seed, device)
        self._prepare = loaded.prepare
        self._network = WindowNetwork(loaded.forward, declared, device)
        self._windows = Windows(self._window.frames, declared.overlap)

    def extract(self, clip: DecodedClip) -> Features:
        frames = clip.frames(self._view)
        if isinstance(frames, Absent):
            return Features.empty(frames.reason, self._width)
        if len(frames) < 2:
            return Features.empty("fewer than two frames", self._width)
        fps, length = self._window.fps, self._window.frames
        shown = at_even_times(frames, fps)
        starts = self._windows.starts(len(shown))
        values = self._network.encode(self._input(frames, shown, start) for start in starts)
        first_s, last_s = frames.start_s[0], frames.end_s[-1]
        start_s = first_s + np.array(starts) / fps
        window_s = length / fps
        short = len(shown) < length
        return Features(
            values,
            start_s,
            np.minimum(start_s + window_s, last_s),
            reason=f"padded from {last_s - first_s:.2f} to {window_s:.2f} s" if short else "",
        )

    def _input(self, frames: Frames, shown: NDArray[np.intp], start: int) -> NDArray[np.float32]:
        """The network's input for the window from `start` on."""
        positions = np.minimum(np.arange(self._window.frames) + start, len(shown) - 1)
        return self._prepare(frames.pixels[shown[positions]])


def at_even_times(frames: Frames, fps: float) -> NDArray[np.intp]:
    """Index of the frame shown in each step of 1/fps seconds, from the first frame's start to the
    last one's end: the frame at the middle of the step, so that a stream of 29.97 frames per
    second isn't read one frame late."""
    first_s, last_s = frames.start_s[0], frames.end_s[-1]
    steps = max(1, int(np.ceil((last_s - first_s) * fps - 1e-6)))
    middle_s = first_s + (np.arange(steps) + 0.5) / fps
    shown: NDArray[np.intp] = np.searchsorted(frames.start_s, middle_s, side="right") - 1
    return shown
