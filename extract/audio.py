"""Sound as embeddings of a network trained on AudioSet, one row per window."""

from typing import ClassVar

import numpy as np

from m2hf.extract.base import MediaSession
from m2hf.extract.inference.windows import Windows
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.networks import ast_network, audio_networks
from m2hf.extract.networks.audio_networks import AudioNetwork
from m2hf.extract.networks.learned import LearnedExtractor, WindowNetwork
from m2hf.extract.weights.weight import Weight
from m2hf.features import Features


class Audio(LearnedExtractor):
    """Values (K, D): for each window, the input of the classifier of AST (D 768) or of PANNs'
    Cnn14 (D 2048), or the unit vector of CLAP's audio tower (D 512). A window is as long as those
    that the network was trained on (AST 10.24 s, Cnn14 and CLAP 10 s); a shorter clip is padded
    with silence, or repeated where CLAP's own files say so.
    """

    name: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = ("librosa", "numpy", "torch", "transformers")
    tag: ClassVar[str] = audio_networks.TAG

    model: str = ast_network.AUDIOSET
    """cnn14, or the name of an AST or a CLAP on the Hugging Face hub, such as
    laion/clap-htsat-unfused."""

    pretrained: str = tag
    """Weights: `published` for those published under the model's name; a path, for an AST or CLAP
    a folder as transformers saves it, for cnn14 a PANNs checkpoint (.pth, or .safetensors with the
    same keys); or "" for random weights, drawn from `seed`."""

    @property
    def _chosen(self) -> AudioNetwork:
        return audio_networks.named(self.model)

    @property
    def width(self) -> int:
        return self._chosen.width(self.files())

    def needs(self) -> tuple[Weight, ...]:
        return self._chosen.needs(self.path) if self.pretrained else ()

    def require_fit(self) -> None:
        self.sample_rates()

    def sample_rates(self) -> tuple[int, ...]:
        return (self._chosen.rate(self.files()),)

    def open(self, device: str) -> "AudioSession":
        return AudioSession(self, device)


class AudioSession(MediaSession):
    def __init__(self, declared: Audio, device: str) -> None:
        self._width, (self._rate,) = declared.width, declared.sample_rates()
        loaded = audio_networks.load(declared.model, declared.files(), declared.seed, device)
        self._hop, self._spectrogram = loaded.hop, loaded.spectrogram
        self._network = WindowNetwork(loaded.forward, declared, device)
        self._windows = Windows(loaded.rows, declared.overlap)

    def extract(self, clip: DecodedClip) -> Features:
        sound = clip.sound(self._rate)
        if isinstance(sound, Absent):
            return Features.empty(sound.reason, self._width)
        length = self._windows.length * self._hop
        steps = -(-len(sound.samples) // self._hop)
        starts = [self._hop * n for n in self._windows.starts(steps)]
        values = self._network.encode(
            self._spectrogram(sound.samples[start : start + length]) for start in starts
        )
        start_s, window_s = np.array(starts) / self._rate, length / self._rate
        short = sound.duration_s < window_s
        return Features(
            values,
            start_s,
            np.minimum(start_s + window_s, sound.duration_s),
            reason=f"padded from {sound.duration_s:.2f} to {window_s:.2f} s" if short else "",
        )
