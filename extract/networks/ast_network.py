"""AST (Gong et al. 2021, Audio Spectrogram Transformer) of transformers: files and network."""

from pathlib import Path
from typing import Any

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.fbank import RATE, Fbank
from m2hf.extract.networks.untrained import seeded
from m2hf.extract.weights.checked import loading, read_object, require_sizes, require_tensors
from m2hf.extract.weights.weight import Weight, WeightFile
from m2hf.plain_data import shown

AUDIOSET = "MIT/ast-finetuned-audioset-10-10-0.4593"
TINY = "m2hf-tiny"  # not on the hub; small enough for tests
# Architectures available with random weights: what differs from ASTConfig's defaults.
_UNTRAINED: dict[str, dict[str, int]] = {
    AUDIOSET: {},
    TINY: {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
}
_CONFIG, _PREPROCESSOR, _TENSORS = "config.json", "preprocessor_config.json", "model.safetensors"
_FILES = (_TENSORS, _CONFIG, _PREPROCESSOR)
_SIZE_MB = 346
# Numbers of a configuration file that become layers and arrays, and the most that is built.
_MOST = {
    "hidden_size": 1 << 14,
    "num_hidden_layers": 1 << 8,
    "num_attention_heads": 1 << 10,
    "intermediate_size": 1 << 16,
    "num_mel_bins": 1 << 10,
    "max_length": 1 << 16,
    "patch_size": 1 << 10,
    "frequency_stride": 1 << 10,
    "time_stride": 1 << 10,
}
_MOST_SCALE = 1e6


def needs(model: str, folder: Path | None) -> tuple[Weight, ...]:
    """The three files of an AST in `folder`, or of `model` on the hub."""
    if folder is not None:
        return tuple(Weight(name, size_mb=0, explicit=str(folder / name)) for name in _FILES)
    return tuple(_hub(model, name) for name in _FILES)


def _hub(model: str, name: str) -> Weight:
    get = (
        f"set extract.audio.pretrained to a folder with {_CONFIG}, {_PREPROCESSOR} and "
        f"{_TENSORS}; without weights, use logmel in place of audio (see --config offline)"
    )
    try:
        return Weight.of_hub(model, name, size_mb=_SIZE_MB if name == _TENSORS else 0, get=get)
    except ValueError as error:
        raise ConfigError(
            f"extract.audio.model = {model!r}: not a model name of the Hugging Face hub, such "
            f"as {AUDIOSET}; for a folder set extract.audio.pretrained"
        ) from error


def load_config(model: str, files: tuple[WeightFile, ...]) -> Any:
    """The ASTConfig of the weights, or of `model` with random weights where there are no files.

    Raises ResourceError for a file of another model type, ConfigError for an unknown architecture.
    """
    from transformers import ASTConfig

    if not files:
        if model not in _UNTRAINED:
            raise ConfigError(
                f"extract.audio.model = {model!r}: with random weights, expected one of "
                f"{', '.join(_UNTRAINED)}"
            )
        return ASTConfig(**_UNTRAINED[model])
    values = read_object(files[1])
    where = f"weights {files[1].paths[0]}"
    if values.get("model_type") != ASTConfig.model_type:
        raise ResourceError(
            f"{where}: of a model of type {shown(values.get('model_type'))}, "
            f"expected {ASTConfig.model_type!r}"
        )
    require_sizes(files[1], values, _MOST)
    with loading(files[1], "the configuration of an AST"):
        return ASTConfig.from_dict(values)


def fbank(config: Any, files: tuple[WeightFile, ...]) -> Fbank:
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


def load(config: Any, files: tuple[WeightFile, ...], seed: int, device: str) -> Any:
    """An ASTModel on `device`; raises ResourceError where the files are damaged or don't fit."""
    import torch

    import_torchvision()  # transformers imports it where it is installed
    from transformers import ASTModel
    from transformers.utils import logging

    if not files:
        with seeded(seed):
            return ASTModel(config).eval().to(device)
    logging.set_verbosity_error()  # no warning that the checkpoint's classifier is not used
    logging.disable_progress_bar()
    with loading(files[0], f"an AST checkpoint that fits its {_CONFIG}") as path:
        model, info = ASTModel.from_pretrained(
            str(path.parent),
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
        # transformers draws a missing tensor at random and only logs a warning.
        require_tensors([*info["missing_keys"], *info["mismatched_keys"]])
    return model.eval().to(device)
