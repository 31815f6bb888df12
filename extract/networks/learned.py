"""What extractors with a network of their own share: whose weights, how many windows at once."""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_serializer

from m2hf.errors import ResourceError
from m2hf.extract.base import MediaExtractor
from m2hf.extract.inference.batching import DeviceBatches
from m2hf.extract.networks.encoder import UNTRAINED
from m2hf.extract.weights.weight import WeightFile

Precision = Literal["float32", "bfloat16"]


class Learned(MediaExtractor):
    """A network over windows of a clip.

    pretrained: the tag that a subclass names, for the weights that the network's library keeps
    in its cache; a path; or "" for weights drawn from `seed`, whose every output is flagged
    "untrained". overlap: of a window with the next, as a share of its length; batch: windows at
    once; precision: "bfloat16" runs on CUDA devices that have it, and nowhere else.
    """

    network: ClassVar[bool] = True
    tag: ClassVar[str]

    model: str
    pretrained: str
    seed: int = 0
    overlap: float = Field(default=0.5, ge=0.0, lt=1.0)
    batch: int = Field(default=8, ge=1)
    precision: Precision = "float32"

    def files(self) -> tuple[WeightFile, ...]:
        """The files of the weights, found and hashed; raises ResourceError where one is missing."""
        return tuple(weight.locate() for weight in self.needs())

    def weights(self) -> Mapping[str, str]:
        if not self.pretrained:
            return {self.model: f"{UNTRAINED}: seed {self.seed}, torch {version('torch')}"}
        return super().weights()

    def flags(self) -> tuple[str, ...]:
        return () if self.pretrained else (UNTRAINED,)

    @property
    def path(self) -> Path | None:
        """Where the weights lie, if that was given."""
        return None if self.pretrained in ("", self.tag) else Path(self.pretrained).expanduser()

    @field_serializer("pretrained")
    def _label(self, pretrained: str) -> str:
        """Where a file lies is no part of what it is: its digest is."""
        return "file" if self.path else pretrained


def read_tensors(path: Path) -> Any:
    """What a .safetensors file, or a .pth of tensors and plain tables alone, holds.

    Raises what the libraries raise for a file that is neither.
    """
    import safetensors.torch
    import torch

    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


class Network:
    """A loaded network that turns a batch (B, ...) of windows into (B, D)."""

    def __init__(self, forward: Callable[[Any], Any], declared: Learned, device: str) -> None:
        import torch

        half = declared.precision == "bfloat16"
        if half and not (device.startswith("cuda") and torch.cuda.is_bf16_supported()):
            raise ResourceError(
                f"extract.{declared.name}.precision = 'bfloat16': {device} doesn't run it; set "
                "it to 'float32', or use a CUDA device that does"
            )

        def cast(windows: Any) -> Any:
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                return forward(windows)

        self._size = declared.batch
        self._batches = DeviceBatches(cast, declared.batch, device, f"extract.{declared.name}")

    def encode(self, windows: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(K, D) of K windows of one shape; on a device, only the last batch is waited for."""
        import torch

        left, done = iter(windows), []
        while part := list(islice(left, self._size)):
            done.append(self._batches(np.stack(part)))
        encoded: NDArray[np.float32] = torch.cat(done).cpu().numpy()
        return encoded
