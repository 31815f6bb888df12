"""The base of extractors that run a network of their own over windows of a clip."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_serializer

from m2hf.extract.base import MediaExtractor
from m2hf.extract.inference.batching import DeviceBatches
from m2hf.extract.inference.precision import AUTO, Precision
from m2hf.extract.networks.untrained import UNTRAINED, origin
from m2hf.extract.weights.weight import WeightFile


class LearnedExtractor(MediaExtractor):
    """A network over windows of a clip."""

    network: ClassVar[bool] = True
    tag: ClassVar[str]
    """The value of `pretrained` that names the published weights."""

    model: str
    """Name of the architecture."""
    pretrained: str
    """The extractor's tag for the published weights; a path; or "" for random weights drawn from
    `seed`, whose features are flagged "untrained"."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Of random weights; unused with a checkpoint."""
    overlap: float = Field(default=0.5, ge=0.0, le=0.99)
    """Overlap of neighbouring windows as a fraction of the window's length."""
    batch: int = Field(default=8, ge=1, le=1 << 12)
    """Windows that the network runs on at once, at least 1."""
    precision: Precision = "float32"
    """Of the network: float32, bfloat16, or auto (see `extract.clip.precision`)."""

    def files(self) -> tuple[WeightFile, ...]:
        """The weight files, located and hashed; raises ResourceError where one is missing."""
        return tuple(weight.locate() for weight in self.needs())

    def require_fit(self) -> None:
        """Raise ResourceError where the files are of a network that the extractor can't run,
        ConfigError for settings that the network doesn't allow."""

    def weights(self) -> Mapping[str, str]:
        self.require_fit()
        if not self.pretrained:
            return {self.model: origin(self.seed)}
        return super().weights()

    def flags(self) -> tuple[str, ...]:
        return () if self.pretrained else (UNTRAINED,)

    @property
    def path(self) -> Path | None:
        """`pretrained` where it is a path, else None."""
        return None if self.pretrained in ("", self.tag) else Path(self.pretrained).expanduser()

    @field_serializer("pretrained")
    def _label(self, pretrained: str) -> str:
        """A path is left out of the fingerprint, which has the digest of the file."""
        return "file" if self.path else pretrained


def read_tensors(path: Path) -> Any:
    """The content of a .safetensors file, or of a .pth of tensors and plain containers only.

    Raises errors of torch's and safetensors' choice for any other file: read within
    `checked.loading`.
    """
    import safetensors.torch
    import torch

    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


class WindowNetwork:
    """A loaded network that maps a batch (B, ...) of windows to (B, D)."""

    def __init__(
        self, forward: Callable[[Any], Any], declared: LearnedExtractor, device: str
    ) -> None:
        import torch

        assert declared.precision != AUTO  # a job replaces it
        half, kind = declared.precision == "bfloat16", device.partition(":")[0]

        def cast(windows: Any) -> Any:
            with torch.autocast(kind, torch.bfloat16, enabled=half):
                return forward(windows)

        self._size = declared.batch
        self._batches = DeviceBatches(cast, declared.batch, device, f"extract.{declared.name}")

    def encode(self, windows: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(K, D) of K windows of one shape; batches are queued on a GPU without waiting between."""
        import torch

        left, done = iter(windows), []
        while part := list(islice(left, self._size)):
            done.append(self._batches(np.stack(part)))
        encoded: NDArray[np.float32] = torch.cat(done).cpu().numpy()
        return encoded
