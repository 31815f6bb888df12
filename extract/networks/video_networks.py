"""torchvision's video networks without their classifiers, and where their weights are."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from m2hf.errors import ResourceError, first_line
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.learned import read_tensors
from m2hf.extract.weights.sources import Address
from m2hf.extract.weights.weight import Weight, WeightFile

TAG = "kinetics400"
MEAN = (0.43216, 0.394666, 0.37645)  # of all networks here, R G B in 0..1
STD = (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True)
class VideoNetwork:
    """width: D; size: (width, height) that frames are squeezed to, of which the `crop` x `crop`
    in the middle is seen; kinetics: torchvision's file, whose name ends with the first 8 digits
    of its sha256. A test compares all of it with torchvision."""

    width: int
    size: tuple[int, int]
    crop: int
    kinetics: str
    size_mb: int


NETWORKS: Mapping[str, VideoNetwork] = {
    "r2plus1d_18": VideoNetwork(512, (171, 128), 112, "r2plus1d_18-91a641e6.pth", 126),
    "s3d": VideoNetwork(1024, (256, 256), 224, "s3d-d76dad2f.pth", 34),
}


def weight(model: str, path: Path | None) -> Weight:
    """The state dict of `model` at `path`, or where torchvision itself keeps what it loaded."""
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
        source=Address(f"https://download.pytorch.org/models/{known.kinetics}", digits),
        get=(
            "set extract.motion.pretrained to its path; without weights, flow takes the place of "
            "motion: see --config offline"
        ),
    )


@cache
def load(model: str, file: WeightFile | None, seed: int, device: str) -> Any:
    """The network on `device`, (B, 3, T, H, W) -> (B, D), once per process; random weights where
    there is no file.

    Raises ResourceError where the file is damaged or of another network.
    """
    import torch

    import_torchvision()
    from torchvision.models import video

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(video, model)(weights=None)
    if file is not None:
        try:
            network.load_state_dict(read_tensors(file.paths[0]))
        except Exception as error:  # torch raises what it likes for what is no checkpoint
            raise ResourceError(
                f"weights {file.paths[0]}: damaged, or not a state dict of {model}: "
                f"{first_line(error)}"
            ) from error
        file.confirm()
    return _without_classifier(network).eval().to(device)


def _without_classifier(network: Any) -> Any:
    import torch

    if hasattr(network, "fc"):
        network.fc = torch.nn.Identity()
        return network
    # S3D classifies each place that is left and takes the mean: of a linear layer, that is the
    # layer of the mean.
    pool = (torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten())
    return torch.nn.Sequential(network.features, network.avgpool, *pool)
