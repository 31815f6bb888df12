"""What a video network is, and torchvision's without their classifiers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.learned import read_tensors
from m2hf.extract.networks.untrained import seeded
from m2hf.extract.weights.checked import load_tensors, loading
from m2hf.extract.weights.sources import UrlSource
from m2hf.extract.weights.weight import Weight, WeightFile

TAG = "kinetics400"
MEAN = (0.43216, 0.394666, 0.37645)  # R G B in 0..1; the same for all networks here
STD = (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True)
class VideoNetwork:
    """One architecture; a test compares its values with torchvision's."""

    width: int
    """D of its features."""
    size: tuple[int, int]
    """(width, height) in pixels that frames are resized to, without keeping the aspect ratio."""
    crop: int
    """Side in pixels of the central square that the network reads."""
    kinetics: str
    """torchvision's weight file; its name ends with the first 8 digits of its sha256."""
    size_mb: int
    """Of the weight file."""


NETWORKS: Mapping[str, VideoNetwork] = {
    "r2plus1d_18": VideoNetwork(512, (171, 128), 112, "r2plus1d_18-91a641e6.pth", 126),
    "s3d": VideoNetwork(1024, (256, 256), 224, "s3d-d76dad2f.pth", 34),
}


@dataclass(frozen=True)
class VideoWindow:
    """What a network reads at once."""

    fps: float
    """Frames per second, as in training."""
    frames: int
    """Frames, as in training."""
    least: int
    """The fewest frames that it reads."""
    most: int
    """The most frames that it reads."""
    step: int = 1
    """Frames are a multiple of it."""

    def allows(self, frames: int) -> bool:
        return self.least <= frames <= self.most and frames % self.step == 0


WINDOW = VideoWindow(fps=15.0, frames=16, least=16, most=32)  # of all networks here


@dataclass(frozen=True, eq=False)
class LoadedVideoNetwork:
    """A network on its device."""

    prepare: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """The frames (F, H, W, 3) of a window, RGB -> its input."""
    forward: Callable[[Any], Any]
    """Inputs (B, ...) on the device -> (B, D)."""


class VideoNetworkByName(Protocol):
    """A network that `motion` can load."""

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        """Its weight files at `path`, or as published."""

    def width(self, files: tuple[WeightFile, ...]) -> int:
        """D, for the weights in `files`, or for random weights where there are none."""

    def window(self, files: tuple[WeightFile, ...]) -> VideoWindow:
        """Its windows."""

    @property
    def scaling(self) -> dict[str, Any]:
        """Fields of the FrameView that it reads."""

    def load(self, files: tuple[WeightFile, ...], seed: int, device: str) -> LoadedVideoNetwork:
        """The network on `device`; random weights where there are no files.

        Raises ResourceError where the files are damaged or of another network.
        """


@dataclass(frozen=True)
class TorchvisionVideo:
    """A network of NETWORKS."""

    model: str

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        return (weight(self.model, path),)

    def width(self, files: tuple[WeightFile, ...]) -> int:
        return NETWORKS[self.model].width

    def window(self, files: tuple[WeightFile, ...]) -> VideoWindow:
        return WINDOW

    @property
    def scaling(self) -> dict[str, Any]:
        return {"size": NETWORKS[self.model].size}

    def load(self, files: tuple[WeightFile, ...], seed: int, device: str) -> LoadedVideoNetwork:
        forward = load(self.model, next(iter(files), None), seed, device)
        return LoadedVideoNetwork(self._prepare, forward)

    def _prepare(self, pixels_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(3, T, crop, crop): cropped and normalised as in training."""
        crop = NETWORKS[self.model].crop
        _, height, width, _ = pixels_THWC.shape
        top, left = round((height - crop) / 2), round((width - crop) / 2)
        cropped = pixels_THWC[:, top : top + crop, left : left + crop].astype(np.float32) / 255
        scaled = (cropped - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        return np.ascontiguousarray(scaled.transpose(3, 0, 1, 2))


def weight(model: str, path: Path | None) -> Weight:
    """The state dict of `model` at `path`, or in torch's own cache of torchvision's weights."""
    import torch

    if path is not None:
        return Weight(model, size_mb=0, explicit=str(path))
    known = NETWORKS[model]
    digits = Path(known.kinetics).stem.rpartition("-")[2]
    return Weight(
        f"{model}/{TAG}",
        known.size_mb,
        cached_sha256=digits,
        cached=Path(torch.hub.get_dir()) / "checkpoints" / known.kinetics,
        source=UrlSource(f"https://download.pytorch.org/models/{known.kinetics}", digits),
        get=(
            "set extract.motion.pretrained to its path; without weights, use flow in place of "
            "motion (see --config offline)"
        ),
    )


@cache
def load(model: str, file: WeightFile | None, seed: int, device: str) -> Any:
    """The network on `device`, (B, 3, T, H, W) -> (B, D), cached in the process; random weights
    where there is no file.

    Raises ResourceError where the file is damaged or of another network.
    """
    import_torchvision()
    from torchvision.models import video

    with seeded(seed):
        network = getattr(video, model)(weights=None)
    if file is not None:
        with loading(file, f"a state dict of {model}") as path:
            load_tensors(network, read_tensors(path))
    return _without_classifier(network).eval().to(device)


def _without_classifier(network: Any) -> Any:
    import torch

    if hasattr(network, "fc"):
        network.fc = torch.nn.Identity()
        return network
    # S3D averages the class scores of all remaining positions. Its classifier is linear, so this
    # equals classifying the average, and the average is the input to keep.
    pool = (torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten())
    return torch.nn.Sequential(network.features, network.avgpool, *pool)
