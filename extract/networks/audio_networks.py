"""The networks that `audio` can run: AST, of which the hub has several, and Cnn14 of PANNs."""

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
class Listener:
    """A loaded network, which hears `rows` steps of `hop` samples at once.

    picture: of the samples of a window, which may be fewer at the end of a clip; forward:
    pictures (B, ...) on the device -> (B, D).
    """

    hop: int
    rows: int
    picture: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    forward: Callable[[Any], Any]


class AudioNetwork(Protocol):
    """rate: samples a second of what it hears."""

    rate: ClassVar[int]

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        """Its files at `path`, or where they are published."""

    def width(self, files: Files) -> int:
        """D, of the weights in `files` or of random ones."""

    def load(self, files: Files, seed: int, device: str) -> Listener:
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
        return int(ast_network.described(self.model, files).hidden_size)

    def load(self, files: Files, seed: int, device: str) -> Listener:
        config = ast_network.described(self.model, files)
        model = ast_network.load(config, files, seed, device)
        heard = ast_network.fbank(config, files)

        def pooled(pictures: Any) -> Any:
            return model(pictures).pooler_output

        return Listener(fbank.HOP, heard.rows, heard.picture, pooled)


@dataclass(frozen=True)
class Cnn14:
    """D: what the classifier of Cnn14 reads."""

    rate: ClassVar[int] = cnn14.RATE

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        return (cnn14.weight(path, TAG),)

    def width(self, files: Files) -> int:
        return cnn14.WIDTH

    def load(self, files: Files, seed: int, device: str) -> Listener:
        forward = cnn14.load(next(iter(files), None), seed, device)
        return Listener(cnn14.HOP, cnn14.WINDOW // cnn14.HOP, cnn14.picture, forward)


def named(model: str) -> AudioNetwork:
    """The network that `model` names: Cnn14, or else an AST."""
    return Cnn14() if model == cnn14.NAME else Ast(model)


@cache
def load(model: str, files: Files, seed: int, device: str) -> Listener:
    """As AudioNetwork.load, once per process."""
    return named(model).load(files, seed, device)
