"""CLAP (Wu et al. 2023, contrastive language-audio pretraining) of transformers: audio tower."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import ResourceError
from m2hf.extract.networks.hub_model import Architecture, Files
from m2hf.extract.weights.checked import loading, read_object, require_sizes
from m2hf.plain_data import shown

RATE = 48000  # Hz
UNFUSED = "laion/clap-htsat-unfused"
TINY = "m2hf-tiny-clap"  # not on the hub; small enough for tests
_TRUNCATION = {True: "fusion", False: "rand_trunc"}  # by whether the network fuses crops
_MOST = {"hop_length": 1 << 12, "fft_window_size": 1 << 14, "max_length_s": 60}
_TINY_TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 300,
}
_TINY_AUDIO = {
    "hidden_size": 64,
    "patch_embeds_hidden_size": 16,
    "depths": [1, 1, 1],
    "num_attention_heads": [1, 2, 4],
    "num_hidden_layers": 3,
}

CLAP = Architecture(
    model_type="clap",
    title="a CLAP",
    config="ClapConfig",
    network="ClapAudioModelWithProjection",
    untrained={
        UNFUSED: {},
        TINY: {"projection_dim": 24, "text_config": _TINY_TEXT, "audio_config": _TINY_AUDIO},
    },
    part="audio_config",
    most={
        "hidden_size": 1 << 14,
        "patch_embeds_hidden_size": 1 << 12,
        "num_mel_bins": 1 << 10,
        "spec_size": 1 << 12,
        "window_size": 1 << 8,
    },
)


class Spectrogram:
    """The log-mel spectrogram of transformers' ClapFeatureExtractor, of one window.

    Raises ResourceError where the files have another sample rate or number of mels than the
    network, or cut sound in another way than it was trained with.
    """

    def __init__(self, config: Any, files: Files) -> None:
        from transformers import ClapFeatureExtractor

        truncation = _TRUNCATION[bool(config.enable_fusion)]
        values = read_object(files[2]) if files else {"truncation": truncation}
        wanted = {"sampling_rate": RATE, "feature_size": config.num_mel_bins}
        for key, value in {**wanted, "truncation": truncation}.items():
            if values.get(key, value) != value:
                raise ResourceError(
                    f"weights {files[2].paths[0]}: {key} is {shown(values[key])}, expected "
                    f"{value!r}"
                )
        if files:
            require_sizes(files[2], values, _MOST)
            with loading(files[2], "the preprocessing of a CLAP"):
                self._extractor: Any = ClapFeatureExtractor.from_dict(values)
        else:
            self._extractor = ClapFeatureExtractor(**values)
        self.hop = int(self._extractor.hop_length)
        self.rows = self._extractor.nb_max_samples // self.hop

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, T, M), or (4, T, M) for a network that fuses crops, of which a window has one."""
        made = self._extractor(samples, sampling_rate=RATE, return_tensors="np")
        spectrogram: NDArray[np.float32] = made["input_features"][0].astype(np.float32)
        return spectrogram


def embed(tower: Any, spectrograms_BCTM: Any) -> Any:
    """(B, D) unit vectors of windows, none of which is longer than those of training."""
    import torch

    count = len(spectrograms_BCTM)
    longer = torch.zeros(count, 1, dtype=torch.bool, device=spectrograms_BCTM.device)
    embedded = tower(input_features=spectrograms_BCTM, is_longer=longer).audio_embeds
    return torch.nn.functional.normalize(embedded.float(), dim=-1)
