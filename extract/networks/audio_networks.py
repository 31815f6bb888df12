"""The networks that `audio` can run: any AST of the Hugging Face hub, and Cnn14 of PANNs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import ConfigError
from m2hf.extract.networks import ast_network, cnn14, fbank
from m2hf.extract.weights.weight import Weight, WeightFile

TAG = "published"
Files = tuple[WeightFile, ...]


@dataclass(frozen=True, eq=False)
class LoadedAudioNetwork:
    """A loaded network whose window is `rows` steps of `hop` samples."""

    hop: int
    rows: int
    spectrogram: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    """Of the samples of a window, of which there may be fewer at the end of a clip."""
    forward: Callable[[Any], Any]
    """Spectrograms (B, ...) on the device -> (B, D)."""


class AudioNetwork(Protocol):
    """An architecture that `audio` can load."""

    rate: ClassVar[int]
    """Sample rate of its input in Hz."""

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        """Its weight files at `path`, or as published."""

    def width(self, files: Files) -> int:
        """D, for the weights in `files`, or for random weights where there are none."""

    def load(self, files: Files, seed: int, device: str) -> LoadedAudioNetwork:
        """The network on `device`; random weights where there are no files.

        Raises ResourceError where the files are damaged or of another network.
        """


@dataclass(frozen=True)
class Ast:
    """D: the mean of AST's two class tokens."""

    model: str
    rate: ClassVar[int] = fbank.RATE

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        if path is None and "/" not in self.model:
            raise ConfigError(
                f"extract.audio.model = {self.model!r}: expected {cnn14.NAME}, or the name of an "
                f"AST on the hub, such as {ast_network.AUDIOSET}"
            )
        return ast_network.needs(self.model, path)

    def width(self, files: Files) -> int:
        return int(ast_network.load_config(self.model, files).hidden_size)

    def load(self, files: Files, seed: int, device: str) -> LoadedAudioNetwork:
        config = ast_network.load_config(self.model, files)
        model = ast_network.load(config, files, seed, device)
        bank = ast_network.fbank(config, files)

        def pooled(spectrograms: Any) -> Any:
            return model(spectrograms).pooler_output

        return LoadedAudioNetwork(fbank.HOP, bank.rows, bank.spectrogram, pooled)


@dataclass(frozen=True)
class Cnn14:
    """D: the input of Cnn14's classifier."""

    rate: ClassVar[int] = cnn14.RATE

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        return (cnn14.weight(path, TAG),)

    def width(self, files: Files) -> int:
        return cnn14.WIDTH

    def load(self, files: Files, seed: int, device: str) -> LoadedAudioNetwork:
        forward = cnn14.load(next(iter(files), None), seed, device)
        return LoadedAudioNetwork(cnn14.HOP, cnn14.WINDOW // cnn14.HOP, cnn14.spectrogram, forward)


def named(model: str) -> AudioNetwork:
    """The network that `model` names: Cnn14, or else an AST."""
    return Cnn14() if model == cnn14.NAME else Ast(model)


@cache
def load(model: str, files: Files, seed: int, device: str) -> LoadedAudioNetwork:
    """AudioNetwork.load, cached in the process."""
    return named(model).load(files, seed, device)
