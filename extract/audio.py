"""Sound as a network hears it that was trained on AudioSet: AST, a row for each window."""

from functools import cache
from typing import Any, ClassVar

import numpy as np

from m2hf.extract import ast_weights
from m2hf.extract.base import NO_AUDIO, MediaSession
from m2hf.extract.fbank import HOP, RATE
from m2hf.extract.learned import Learned, Network
from m2hf.extract.media import DecodedClip
from m2hf.extract.weights import Weight, WeightFile
from m2hf.extract.windows import Windows
from m2hf.features import Features


class Audio(Learned):
    """Values (K, D): of each window, what AST's classifier reads, the mean of its two class
    tokens. A window is as long as the network was trained on (10.24 s); of a shorter clip, the
    rest is silent.

    model: a name on the hub; pretrained: "hub" for the hub's own cache, a folder as transformers
    saves it, or "" for random weights.
    """

    name: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch", "transformers")
    tag: ClassVar[str] = "hub"

    model: str = ast_weights.AUDIOSET
    pretrained: str = tag

    @property
    def width(self) -> int:
        return int(ast_weights.described(self.model, self.files()).hidden_size)

    def needs(self) -> tuple[Weight, ...]:
        return ast_weights.needs(self.model, self.path) if self.pretrained else ()

    def sample_rates(self) -> tuple[int, ...]:
        return (RATE,)

    def open(self, device: str) -> "AudioSession":
        return AudioSession(self, device)


class AudioSession(MediaSession):
    def __init__(self, declared: Audio, device: str) -> None:
        files = declared.files()
        self._model = _model(declared.model, files, declared.seed, device)
        self._network = Network(self._pooled, declared, device)
        self._fbank = ast_weights.fbank(self._model.config, files)
        self._windows = Windows(self._fbank.rows, declared.overlap)

    def extract(self, clip: DecodedClip) -> Features:
        sound = clip.sound(RATE)
        if sound is None:
            return Features.empty(NO_AUDIO, self._model.config.hidden_size)
        length = self._windows.length * HOP
        starts = [HOP * n for n in self._windows.starts(-(-len(sound.samples) // HOP))]
        values = self._network.encode(
            self._fbank.picture(sound.samples[start : start + length]) for start in starts
        )
        start_s = np.array(starts) / RATE
        short = sound.duration_s < length / RATE
        return Features(
            values,
            start_s,
            np.minimum(start_s + length / RATE, sound.duration_s),
            reason=f"padded from {sound.duration_s:.2f} to {length / RATE} s" if short else "",
        )

    def _pooled(self, pictures: Any) -> Any:
        return self._model(pictures).pooler_output


@cache
def _model(model: str, files: tuple[WeightFile, ...], seed: int, device: str) -> Any:
    return ast_weights.load(ast_weights.described(model, files), files, seed, device)
