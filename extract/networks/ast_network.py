"""AST (Gong et al. 2021, Audio Spectrogram Transformer) of transformers."""

from typing import Any

from m2hf.errors import ResourceError
from m2hf.extract.networks.fbank import RATE, Fbank
from m2hf.extract.networks.hub_model import TRANSFORMER, Architecture, Files
from m2hf.extract.weights.checked import read_object
from m2hf.plain_data import shown

AUDIOSET = "MIT/ast-finetuned-audioset-10-10-0.4593"
TINY = "m2hf-tiny"  # not on the hub; small enough for tests
_MOST_SCALE = 1e6

AST = Architecture(
    model_type="audio-spectrogram-transformer",
    title="an AST",
    config="ASTConfig",
    network="ASTModel",
    untrained={
        AUDIOSET: {},
        TINY: {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        },
    },
    most={
        **TRANSFORMER,
        "num_mel_bins": 1 << 10,
        "max_length": 1 << 16,
        "patch_size": 1 << 10,
        "frequency_stride": 1 << 10,
        "time_stride": 1 << 10,
    },
)


def fbank(config: Any, files: Files) -> Fbank:
    """The spectrogram that this network was trained on.

    Raises ResourceError where it has another sample rate or size, or is not normalised.
    """
    values = read_object(files[2]) if files else {}
    wanted = {"sampling_rate": RATE, "do_normalize": True, "num_mel_bins": config.num_mel_bins}
    for key, value in {**wanted, "max_length": config.max_length}.items():
        if values.get(key, value) != value:
            raise ResourceError(
                f"weights {files[2].paths[0]}: {key} is {shown(values[key])}, expected {value!r}"
            )
    scale = {"mean": -4.2677393, "std": 4.5689974}  # AudioSet's, ASTFeatureExtractor's default
    for key in scale:
        scale[key] = value = values.get(key, scale[key])
        if type(value) not in (int, float) or not -_MOST_SCALE < value < _MOST_SCALE:
            raise ResourceError(
                f"weights {files[2].paths[0]}: {key} is {shown(value)}, expected a number"
            )
    return Fbank(config.max_length, config.num_mel_bins, **scale)
