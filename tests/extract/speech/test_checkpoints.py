"""CTranslate2 files are converted exactly to openai-whisper's state; other files are refused."""

import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from m2hf.errors import ResourceError
from m2hf.extract.speech import checkpoints
from m2hf.extract.speech.ctranslate2 import read_model
from m2hf.extract.weights.sources import UrlSource
from m2hf.extract.weights.weight import WeightFile


def ctranslate2_bytes(variables: dict[str, NDArray[Any]], aliases: dict[str, str]) -> bytes:
    """A model file, as CTranslate2 writes it."""
    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    out = io.BytesIO()

    def string(text: str) -> None:
        out.write(struct.pack("<H", len(text) + 1) + text.encode() + b"\0")

    out.write(struct.pack("<I", 6))
    string("WhisperSpec")
    out.write(struct.pack("<II", 3, len(variables)))
    for name, array in variables.items():
        string(name)
        out.write(struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape))
        out.write(struct.pack("<BI", kinds[str(array.dtype)], array.nbytes) + array.tobytes())
    out.write(struct.pack("<I", len(aliases)))
    for alias, target in aliases.items():
        string(alias)
        string(target)
    return out.getvalue()


def as_ctranslate2(state: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The naive inverse of the conversion, block by block."""
    made: dict[str, NDArray[Any]] = {
        "encoder/position_encodings/encodings": state["encoder.positional_embedding"],
        "decoder/position_encodings/encodings": state["decoder.positional_embedding"],
        "decoder/embeddings/weight": state["decoder.token_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        norm = {"weight": "gamma", "bias": "beta"}[kind]
        for conv in ("conv1", "conv2"):
            made[f"encoder/{conv}/{kind}"] = state[f"encoder.{conv}.{kind}"]
        made[f"encoder/layer_norm/{norm}"] = state[f"encoder.ln_post.{kind}"]
        made[f"decoder/layer_norm/{norm}"] = state[f"decoder.ln.{kind}"]
        for side, layer in (("encoder", 0), ("encoder", 1), ("decoder", 0)):
            block, target = f"{side}.blocks.{layer}", f"{side}/layer_{layer}"
            pairs = [
                ("attn_ln", "self_attention"),
                ("mlp_ln", "ffn"),
                ("cross_attn_ln", "attention"),
            ]
            for ours, theirs in pairs[: 3 if side == "decoder" else 2]:
                made[f"{target}/{theirs}/layer_norm/{norm}"] = state[f"{block}.{ours}.{kind}"]

            def joined(attention: str, *names: str, block: str = block, kind: str = kind) -> Any:
                parts = []
                for name in names:
                    zero = np.zeros(len(state[f"{block}.{attention}.query.bias"]), np.float16)
                    parts.append(state.get(f"{block}.{attention}.{name}.{kind}", zero))
                return np.concatenate(parts)

            own = f"{target}/self_attention"
            made[f"{own}/linear_0/{kind}"] = joined("attn", "query", "key", "value")
            made[f"{own}/linear_1/{kind}"] = joined("attn", "out")
            if side == "decoder":
                cross = f"{target}/attention"
                made[f"{cross}/linear_0/{kind}"] = joined("cross_attn", "query")
                made[f"{cross}/linear_1/{kind}"] = joined("cross_attn", "key", "value")
                made[f"{cross}/linear_2/{kind}"] = joined("cross_attn", "out")
            for i, name in enumerate(("mlp.0", "mlp.2")):
                made[f"{target}/ffn/linear_{i}/{kind}"] = state[f"{block}.{name}.{kind}"]
    return made


@pytest.fixture(scope="module")
def small() -> tuple[dict[str, int], dict[str, NDArray[Any]]]:
    """A Whisper of two encoder layers and one decoder layer, of random weights."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    dimensions = {
        "n_mels": 80, "n_audio_ctx": 30, "n_audio_state": 64, "n_audio_head": 1,
        "n_audio_layer": 2, "n_vocab": 50, "n_text_ctx": 8, "n_text_state": 64,
        "n_text_head": 1, "n_text_layer": 1,
    }  # fmt: skip
    torch.manual_seed(0)
    state = Whisper(ModelDimensions(**dimensions)).half().state_dict()
    arrays = {name: torch.randn_like(value).numpy() for name, value in state.items()}
    return dimensions, arrays


Small = tuple[dict[str, int], dict[str, NDArray[Any]]]


def file_of(tmp_path: Path, data: bytes) -> WeightFile:
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    return WeightFile("whisper/small", (path,), hashlib.sha256(data).hexdigest())


def test_the_conversion_is_exact(small: Small, tmp_path: Path) -> None:
    dimensions, state = small
    data = ctranslate2_bytes(
        as_ctranslate2(state), {"decoder/projection/weight": "decoder/embeddings/weight"}
    )
    model = read_model(data)
    assert model.specification == "WhisperSpec"
    converted = checkpoints.whisper_state(model.variables)
    assert checkpoints.whisper_dimensions(converted) == dimensions
    assert set(converted) == set(state)
    for name, array in converted.items():
        np.testing.assert_array_equal(array, state[name])
    loaded = checkpoints.load(file_of(tmp_path, data), "cpu").state_dict()
    np.testing.assert_array_equal(
        loaded["decoder.blocks.0.cross_attn.value.weight"].numpy(),
        state["decoder.blocks.0.cross_attn.value.weight"].astype(np.float32),
    )


def test_a_checkpoint_of_whisper_itself_loads(small: Small, tmp_path: Path) -> None:
    import torch

    dimensions, state = small
    buffer = io.BytesIO()
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    torch.save({"dims": dimensions, "model_state_dict": tensors}, buffer)
    model = checkpoints.load(file_of(tmp_path, buffer.getvalue()), "cpu")
    assert model.dims.n_audio_layer == 2


def test_a_key_bias_is_refused(small: Small) -> None:
    variables = as_ctranslate2(small[1])
    name = "encoder/layer_1/self_attention/linear_0/bias"
    variables[name] = np.ones_like(variables[name])
    with pytest.raises(ValueError, match="the key bias is not zero"):
        checkpoints.whisper_state(variables)


def test_other_files_are_one_clear_line(small: Small, tmp_path: Path) -> None:
    data = ctranslate2_bytes(as_ctranslate2(small[1]), {})
    for broken in (b"", b"rubbish" * 99, data[: len(data) // 2], struct.pack("<I", 5) + data[4:]):
        message = r"model\.bin: damaged, or not a Whisper.*: not a CTranslate2 .* of version 6: "
        with pytest.raises(ResourceError, match=message):
            checkpoints.load(file_of(tmp_path, broken), "cpu")
    with pytest.raises(ResourceError, match="not a Whisper checkpoint: "):
        checkpoints.load(file_of(tmp_path, b"PK" + b"x" * 99), "cpu")


def test_another_architecture_and_half_a_file_are_one_clear_line(
    small: Small, tmp_path: Path
) -> None:
    import torch

    dimensions, state = small
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}

    def saved(content: Any) -> bytes:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    whole = saved({"dims": dimensions, "model_state_dict": tensors})
    wider = {**dimensions, "n_vocab": 60}
    fewer = {name: array for name, array in state.items() if "decoder.blocks.0.mlp" not in name}
    foreign = {"encoder/embeddings/weight": np.zeros((2, 2), np.float16)}
    for data in (
        whole[: len(whole) // 2],
        saved({"weight": torch.zeros(3)}),
        saved({"dims": {"n_mels": 80}, "model_state_dict": tensors}),
        saved({"dims": dimensions | {"n_text_layer": 10**9}, "model_state_dict": tensors}),
        saved({"dims": wider, "model_state_dict": tensors}),
        saved({"dims": dimensions, "model_state_dict": {n: tensors[n] for n in fewer}}),
        ctranslate2_bytes(foreign, {}),
    ):
        with pytest.raises(
            ResourceError, match=r"model\.bin: damaged, or not a Whisper checkpoint: "
        ) as raised:
            checkpoints.load(file_of(tmp_path, data), "cpu")
        assert "\n" not in str(raised.value)
    path = tmp_path / "model.bin"
    path.write_bytes(whole)
    with pytest.raises(ResourceError, match="was changed while it was in use"):
        checkpoints.load(WeightFile("whisper/small", (path,), "0" * 64), "cpu")


def test_names_and_digests_are_those_of_the_package() -> None:
    import whisper

    expected = {name: url.rpartition("/models/")[2] for name, url in whisper._MODELS.items()}
    found = {name: checkpoints._published(name, "").source for name in checkpoints._PUBLISHED}
    for name, source in found.items():
        assert isinstance(source, UrlSource)
        digest, file = expected[name].split("/")
        assert (source.sha256, source.resolve().file) == (digest, file)
        assert source.url == whisper._MODELS[name]
    assert found.keys() == expected.keys()
