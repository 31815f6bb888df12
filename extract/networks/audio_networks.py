"""The networks that `audio` can run: AST and CLAP of the Hugging Face hub, and Cnn14 of PANNs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import ConfigError
from m2hf.extract.networks import ast_network, clap_network, cnn14, fbank, hub_model
from m2hf.extract.networks.ast_network import AST
from m2hf.extract.networks.clap_network import CLAP
from m2hf.extract.networks.hub_model import Architecture, Files
from m2hf.extract.weights.repository import Repository
from m2hf.extract.weights.weight import Weight

TAG = "published"
_SIZE_MB = 346  # of an AST
_GET = (
    "set extract.audio.pretrained to a folder with config.json, preprocessor_config.json and "
    "model.safetensors; without weights, use logmel in place of audio (see --config offline)"
)


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

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        """Its weight files at `path`, or as published."""

    def rate(self, files: Files) -> int:
        """Sample rate of its input in Hz."""

    def width(self, files: Files) -> int:
        """D, for the weights in `files`, or for random weights where there are none."""

    def load(self, files: Files, seed: int, device: str) -> LoadedAudioNetwork:
        """The network on `device`; random weights where there are no files.

        Raises ResourceError where the files are damaged or of another network.
        """


@dataclass(frozen=True)
class HubAudio:
    """A network of transformers: AST (D: the mean of its two class tokens), or the audio tower of
    CLAP (D: unit vectors of the space that it shares with its text tower)."""

    model: str

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        if path is None and "/" not in self.model:
            raise ConfigError(
                f"extract.audio.model = {self.model!r}: expected {cnn14.NAME}, or the name of an "
                f"AST or CLAP on the hub, such as {ast_network.AUDIOSET}"
            )
        place = Repository(self.model, "extract.audio.model", path, _GET)
        return hub_model.needs(place, _SIZE_MB)

    def rate(self, files: Files) -> int:
        return clap_network.RATE if self._is_clap(files) else fbank.RATE

    def width(self, files: Files) -> int:
        config = self._architecture(files).configuration(self.model, files)
        return int(config.projection_dim if self._is_clap(files) else config.hidden_size)

    def load(self, files: Files, seed: int, device: str) -> LoadedAudioNetwork:
        architecture = self._architecture(files)
        config = architecture.configuration(self.model, files)
        if self._is_clap(files):
            own = clap_network.Spectrogram(config.audio_config, files)
            tower = architecture.load(config.audio_config, files, seed, device)
            return LoadedAudioNetwork(own.hop, own.rows, own, partial(clap_network.embed, tower))
        bank = ast_network.fbank(config, files)
        model = architecture.load(config, files, seed, device)

        def pooled(spectrograms: Any) -> Any:
            return model(spectrograms).pooler_output

        return LoadedAudioNetwork(fbank.HOP, bank.rows, bank.spectrogram, pooled)

    def _architecture(self, files: Files) -> Architecture:
        return hub_model.choose((AST, CLAP), self.model, files, "extract.audio")

    def _is_clap(self, files: Files) -> bool:
        return self._architecture(files) is CLAP


@dataclass(frozen=True)
class Cnn14:
    """D: the input of Cnn14's classifier."""

    def needs(self, path: Path | None) -> tuple[Weight, ...]:
        return (cnn14.weight(path, TAG),)

    def rate(self, files: Files) -> int:
        return cnn14.RATE

    def width(self, files: Files) -> int:
        return cnn14.WIDTH

    def load(self, files: Files, seed: int, device: str) -> LoadedAudioNetwork:
        forward = cnn14.load(next(iter(files), None), seed, device)
        return LoadedAudioNetwork(cnn14.HOP, cnn14.WINDOW // cnn14.HOP, cnn14.spectrogram, forward)


def named(model: str) -> AudioNetwork:
    """The network that `model` names: Cnn14, or else one of transformers."""
    return Cnn14() if model == cnn14.NAME else HubAudio(model)


@cache
def load(model: str, files: Files, seed: int, device: str) -> LoadedAudioNetwork:
    """AudioNetwork.load, cached in the process."""
    return named(model).load(files, seed, device)
