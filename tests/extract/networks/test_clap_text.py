"""CLAP's text tower encodes captions in the space of its audio tower."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizer_files import write_tokenizer

from m2hf.config import parse
from m2hf.errors import ConfigError, M2hfError
from m2hf.extract.audio import Audio
from m2hf.extract.caption import CaptionEncoder
from m2hf.extract.networks.clap_network import CLAP, TINY, UNFUSED
from m2hf.extract.networks.clap_text import ClapEncoder
from m2hf.extract.networks.compat import import_torchvision
from m2hf.features import unit_rows

TEXTS = ["a dog", "two red circles", "a blue square moves"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder, and the whole CLAP in it with random weights."""
    import_torchvision()
    from transformers import ClapFeatureExtractor, ClapModel

    torch.manual_seed(6)
    model = ClapModel(CLAP.configuration(TINY, ())).eval()
    folder: Path = tmp_path_factory.mktemp("clap")
    write_tokenizer(folder, "roberta")
    model.save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    return folder, model


def captions(**encoder: Any) -> CaptionEncoder:
    return parse(CaptionEncoder, {"encoder": {"kind": "clap", **encoder}}, "extract.caption")


def test_vectors_are_those_of_the_library(saved: tuple[Path, Any]) -> None:
    from transformers import AutoTokenizer

    folder, model = saved
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model.get_text_features(inputs.input_ids, inputs.attention_mask)
        expected = unit_rows(getattr(found, "pooler_output", found).numpy())
    declared = captions(model=str(folder))
    opened = declared.encoder.open("cpu")
    np.testing.assert_allclose(opened.encode_sentences(TEXTS), expected, atol=1e-5)
    made = declared.open("cpu").extract(TEXTS[1])
    np.testing.assert_allclose(made.values, expected[1:2], atol=1e-5)
    assert made.texts == (TEXTS[1],)
    assert declared.width == Audio(pretrained=str(folder)).width == 24
    assert declared.flags() == ()


def test_a_long_caption_is_cut(saved: tuple[Path, Any]) -> None:
    declared = captions(model=str(saved[0]))
    made = declared.open("cpu").extract("dog " * 300)
    assert made.reason == "cut to 510 of 1200 tokens"
    assert made.values.shape == (1, 24)


def test_the_fingerprint_is_of_the_files_and_not_of_their_place(
    saved: tuple[Path, Any], tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(saved[0], tmp_path / "moved"))
    base = captions(model=str(saved[0]))
    names = {"tokenizer", "tokenizer_config.json", "config.json", "model.safetensors"}
    assert {*base.declared({})["weights"]} == names
    assert captions(model=str(moved)).fingerprint() == base.fingerprint()
    for path in (moved / "tokenizer.json", moved / "config.json", moved / "model.safetensors"):
        kept = path.read_bytes()
        path.write_bytes(kept + b" ")
        assert captions(model=str(moved)).fingerprint() != base.fingerprint()
        path.write_bytes(kept)


def test_random_weights_are_flagged(saved: tuple[Path, Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved[0], tmp_path / "no-weights"))
    (folder / "model.safetensors").unlink()
    one, two = (captions(model=str(folder), pretrained="", seed=seed) for seed in (0, 1))
    assert one.flags() == ("untrained",)
    assert one.fingerprint() != two.fingerprint()
    rows = [declared.encoder.open("cpu").encode_sentences(TEXTS) for declared in (one, two)]
    assert not np.allclose(*rows)


def test_the_published_model_is_a_set_of_weights_with_512_values() -> None:
    assert [weight.name.rpartition("/")[2] for weight in ClapEncoder().needs()] == [
        "tokenizer",
        "tokenizer_config.json",
        "config.json",
        "model.safetensors",
    ]
    assert {weight.name.rpartition("/")[0] for weight in ClapEncoder().needs()} == {UNFUSED}
    assert CLAP.configuration(UNFUSED, ()).projection_dim == 512


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", {"model_type": "roberta"}, "type 'roberta', expected one of 'clap'"),
        ("config.json", {"text_config": []}, "text_config isn't an object"),
        ("config.json", {"projection_dim": 25}, "not a CLAP checkpoint that fits its config.json"),
        ("tokenizer.json", None, "no such file: .*tokenizer.json"),
        ("tokenizer_config.json", None, "no such file: .*tokenizer_config.json"),
    ],
)
def test_other_folders_are_one_clear_line(
    saved: tuple[Path, Any], tmp_path: Path, name: str, change: Any, message: str
) -> None:
    folder = Path(shutil.copytree(saved[0], tmp_path / "damaged"))
    if change is None:
        (folder / name).unlink()
    else:
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**values, **change}), encoding="utf-8")
    with pytest.raises(M2hfError, match=message) as raised:
        captions(model=str(folder)).open("cpu")
    assert "\n" not in str(raised.value)


def test_a_name_that_is_no_model_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="'clap': expected a CLAP of the Hugging Face hub, such"):
        captions(model="clap").weights()
    with pytest.raises(ConfigError, match=r"pretrained.*published"):
        captions(pretrained="laion")
