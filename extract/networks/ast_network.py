"""AST (Gong et al. 2021, Audio Spectrogram Transformer) of transformers: its files, its network."""

import json
from pathlib import Path
from typing import Any

from m2hf.errors import ConfigError, ResourceError, first_line
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.fbank import RATE, Fbank
from m2hf.extract.weights.sources import Hub
from m2hf.extract.weights.weight import Weight, WeightFile

AUDIOSET = "MIT/ast-finetuned-audioset-10-10-0.4593"
TINY = "m2hf-tiny"  # our own, small enough for tests
# Architectures that can be had with random weights; what is not said is AST's own default.
_UNTRAINED: dict[str, dict[str, int]] = {
    AUDIOSET: {},
    TINY: {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
}
_CONFIG, _PICTURE, _TENSORS = "config.json", "preprocessor_config.json", "model.safetensors"
_FILES = (_TENSORS, _CONFIG, _PICTURE)
_SIZE_MB = 346


def needs(model: str, folder: Path | None) -> tuple[Weight, ...]:
    """The three files of an AST in `folder`, or of `model` on the hub."""
    if folder is not None:
        return tuple(Weight(name, size_mb=0, explicit=str(folder / name)) for name in _FILES)
    return tuple(_hub(model, name) for name in _FILES)


def _hub(model: str, name: str) -> Weight:
    from huggingface_hub.errors import HFValidationError

    source = Hub(model, (name,))
    try:
        cached, sha256 = source.cached()
    except HFValidationError as error:
        raise ConfigError(
            f"extract.audio.model = {model!r}: no name of a model on the hub, such as {AUDIOSET}; "
            "for a folder set extract.audio.pretrained"
        ) from error
    return Weight(
        f"{model}/{name}",
        size_mb=_SIZE_MB if name == _TENSORS else 0,
        cached=cached,
        cached_sha256=sha256,
        source=source,
        get=(
            f"set extract.audio.pretrained to a folder with {_CONFIG}, {_PICTURE} and {_TENSORS}; "
            "without weights, logmel takes the place of audio: see --config offline"
        ),
    )


def described(model: str, files: tuple[WeightFile, ...]) -> Any:
    """The ASTConfig of the weights, or of `model` with random ones where there are no files.

    Raises ResourceError for a file that is no AST's, ConfigError for an unknown architecture.
    """
    from transformers import ASTConfig

    if not files:
        if model not in _UNTRAINED:
            raise ConfigError(
                f"extract.audio.model = {model!r}: of ASTs with random weights there are "
                f"{', '.join(_UNTRAINED)}"
            )
        return ASTConfig(**_UNTRAINED[model])
    said = _json(files[1])
    if said.get("model_type") != ASTConfig.model_type:
        raise ResourceError(
            f"weights {files[1].paths[0]}: of a model of type {said.get('model_type')!r}, "
            f"expected {ASTConfig.model_type!r}"
        )
    try:
        return ASTConfig.from_dict(said)
    except Exception as error:  # whatever its validation raises
        raise ResourceError(f"weights {files[1].paths[0]}: {first_line(error)}") from error


def fbank(config: Any, files: tuple[WeightFile, ...]) -> Fbank:
    """How sound becomes the picture that this network was trained on.

    Raises ResourceError where that is at another rate, or not normalised.
    """
    said = _json(files[2]) if files else {}
    wanted = {"sampling_rate": RATE, "do_normalize": True, "num_mel_bins": config.num_mel_bins}
    for key, value in {**wanted, "max_length": config.max_length}.items():
        if said.get(key, value) != value:
            raise ResourceError(
                f"weights {files[2].paths[0]}: {key} is {said[key]!r}, expected {value!r}"
            )
    default = {"mean": -4.2677393, "std": 4.5689974}  # AudioSet's, ASTFeatureExtractor's default
    scale = {key: float(said.get(key, default[key])) for key in default}
    return Fbank(config.max_length, config.num_mel_bins, **scale)


def load(config: Any, files: tuple[WeightFile, ...], seed: int, device: str) -> Any:
    """An ASTModel on `device`; raises ResourceError where the files are damaged or don't fit."""
    import torch

    import_torchvision()  # transformers' models import it where it is installed
    from transformers import ASTModel
    from transformers.utils import logging

    if not files:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ASTModel(config).eval().to(device)
    logging.set_verbosity_error()  # that the classifier is left out is meant
    logging.disable_progress_bar()
    tensors = files[0].paths[0]
    try:
        model, told = ASTModel.from_pretrained(
            str(tensors.parent),
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors and transformers raise what they like
        raise ResourceError(
            f"weights {tensors}: damaged, or not of the network that {_CONFIG} describes: "
            f"{first_line(error)}"
        ) from error
    # A tensor that is missing would be drawn at random, with a remark in a log.
    lost = sorted(told["missing_keys"]) + sorted(told["mismatched_keys"])
    if lost:
        raise ResourceError(f"weights {tensors}: not an AST checkpoint: it lacks {lost[0]}")
    files[0].confirm()
    return model.eval().to(device)


def _json(file: WeightFile) -> dict[str, Any]:
    try:
        said = json.loads(file.read())
    except ValueError as error:
        raise ResourceError(f"weights {file.paths[0]}: not a JSON file: {error}") from error
    if not isinstance(said, dict):
        raise ResourceError(f"weights {file.paths[0]}: expected a JSON object")
    return said
