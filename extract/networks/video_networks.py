"""torchvision's video networks without their classifiers, and their weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
