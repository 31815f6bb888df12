"""Motion as embeddings of a network trained on Kinetics (torchvision), one row per window."""

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from m2hf.extract.base import MediaSession
from m2hf.extract.inference.windows import Windows
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.views import FrameView
from m2hf.extract.networks import video_networks
from m2hf.extract.networks.learned import LearnedExtractor, WindowNetwork
from m2hf.extract.networks.video_networks import MEAN, NETWORKS, STD
from m2hf.extract.weights.weight import Weight
from m2hf.features import Features


class Motion(LearnedExtractor):
    """Values (L, D): for each window, the input of the classifier of R(2+1)D-18 (D 512) or S3D
    (D 1024). A clip shorter than a window is padded with its last frame."""

    name: ClassVar[str] = "motion"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch", "torchvision")
    tag: ClassVar[str] = video_networks.TAG

    model: Literal["r2plus1d_18", "s3d"] = "r2plus1d_18"
    """torchvision's name of the network."""

    pretrained: str = tag
    """Weights: `kinetics400` for torchvision's, from torch's cache; the path of a state dict (.pth
    or .safetensors); or "" for random weights, drawn from `seed`."""

    fps: float = Field(default=15.0, ge=0.01, le=60.0)
    """Frames per second that the network reads."""

    frames: int = Field(default=16, ge=16, le=32)
    """Frames per window."""

    overlap: float = Field(default=0.0, ge=0.0, le=0.99)
    """Overlap of consecutive windows, as a share of their length."""

    @property
    def width(self) -> int:
        return NETWORKS[self.model].width

    @property
    def view(self) -> FrameView:
        return FrameView(fps=self.fps, size=NETWORKS[self.model].size)

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def needs(self) -> tuple[Weight, ...]:
        return (video_networks.weight(self.model, self.path),) if self.pretrained else ()

    def open(self, device: str) -> "MotionSession":
        return MotionSession(self, device)


class MotionSession(MediaSession):
    def __init__(self, declared: Motion, device: str) -> None:
        self._declared = declared
        file = next(iter(declared.files()), None)
        network = video_networks.load(declared.model, file, declared.seed, device)
        self._network = WindowNetwork(network, declared, device)
        self._windows = Windows(declared.frames, declared.overlap)

    def extract(self, clip: DecodedClip) -> Features:
        declared = self._declared
        frames = clip.frames(declared.view)
        if isinstance(frames, Absent):
            return Features.empty(frames.reason, declared.width)
        if len(frames) < 2:
            return Features.empty("fewer than two frames", declared.width)
        shown = at_even_times(frames, declared.fps)
        starts = self._windows.starts(len(shown))
        values = self._network.encode(self._window(frames, shown, start) for start in starts)
        first_s, last_s = frames.start_s[0], frames.end_s[-1]
        start_s = first_s + np.array(starts) / declared.fps
        window_s = declared.frames / declared.fps
        short = len(shown) < declared.frames
        return Features(
            values,
            start_s,
            np.minimum(start_s + window_s, last_s),
            reason=f"padded from {last_s - first_s:.2f} to {window_s:.2f} s" if short else "",
        )

    def _window(self, frames: Frames, shown: NDArray[np.intp], start: int) -> NDArray[np.float32]:
        """(3, T, crop, crop): the window from `start` on, cropped and normalised as in training."""
        crop = NETWORKS[self._declared.model].crop
        positions = np.minimum(np.arange(self._declared.frames) + start, len(shown) - 1)
        pixels_THWC = frames.pixels[shown[positions]]
        _, height, width, _ = pixels_THWC.shape
        top, left = round((height - crop) / 2), round((width - crop) / 2)
        cropped = pixels_THWC[:, top : top + crop, left : left + crop].astype(np.float32) / 255
        scaled = (cropped - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        return np.ascontiguousarray(scaled.transpose(3, 0, 1, 2))


def at_even_times(frames: Frames, fps: float) -> NDArray[np.intp]:
    """Index of the frame shown in each step of 1/fps seconds, from the first frame's start to the
    last one's end: the frame at the middle of the step, so that a stream of 29.97 frames per
    second isn't read one frame late."""
    first_s, last_s = frames.start_s[0], frames.end_s[-1]
    steps = max(1, int(np.ceil((last_s - first_s) * fps - 1e-6)))
    middle_s = first_s + (np.arange(steps) + 0.5) / fps
    shown: NDArray[np.intp] = np.searchsorted(frames.start_s, middle_s, side="right") - 1
    return shown
