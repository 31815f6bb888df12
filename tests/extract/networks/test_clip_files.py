"""Every name that open_clip lists: which files it needs, and that its network is built and runs."""

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizer_files import write_tokenizer

from m2hf.errors import ResourceError
from m2hf.extract.networks import clip_files
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.networks.preprocessing import ImageTower
from m2hf.extract.weights.digests import digest_of
from m2hf.extract.weights.folder import VARIABLE, WeightsFolder

# The repositories of text towers and tokenizers that open_clip's configurations name.
TEXT: Mapping[str, tuple[str, dict[str, Any]]] = {
    "bert-base-uncased": ("bert", {}),
    "facebook/xlm-v-base": ("xlm-roberta", {}),
    "google/mt5-base": ("mt5", {"d_model": 768}),
    "google/mt5-xl": ("mt5", {"d_model": 2048}),
    "roberta-base": ("roberta", {"hidden_size": 768}),
    "xlm-roberta-base": ("xlm-roberta", {"hidden_size": 768}),
    "xlm-roberta-large": ("xlm-roberta", {"hidden_size": 1024}),
    "facebook/nllb-200-distilled-600M": ("nllb", {"d_model": 1024}),
    "facebook/nllb-200-distilled-1.3B": ("nllb", {"d_model": 1024}),
}
_ONE_LAYER = {"num_hidden_layers": 1, "num_layers": 1, "num_decoder_layers": 1, "vocab_size": 300}
_ONE_LAYER |= {"num_attention_heads": 16, "num_heads": 16, "encoder_attention_heads": 16}
NAMES = [n for n in clip_files.library().list_models() if n != clip_files.TINY]
CONFIGS = {name: clip_files.library().get_model_config(name) for name in NAMES}


def test_open_clip_lists_the_models_that_the_documents_count() -> None:
    assert len(NAMES) == 144
    assert sum("hf_tokenizer_name" in CONFIGS[name]["text_cfg"] for name in NAMES) == 49


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights folder of a machine that has the tokenizers of all models, and no model."""
    root: Path = tmp_path_factory.mktemp("weights")
    folder = WeightsFolder(root)
    named = {config["text_cfg"].get("hf_tokenizer_name") for config in CONFIGS.values()} - {None}
    for name in sorted(named):
        kind, config = TEXT.get(name, ("siglip2" if "SigLIP2" in name else "siglip", {}))
        made = write_tokenizer(root / name, kind, {**_ONE_LAYER, **config})
        for part, path in (
            ("tokenizer", made / "tokenizer.json"),
            ("tokenizer_config.json", made / "tokenizer_config.json"),
            ("config.json", made / "config.json"),
        ):
            folder.record(f"{name}/{part}", path, digest_of((path,)), "")
    return root


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_ready_or_says_in_one_line_what_is_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = Encoder(model=name, pretrained="")
    text = CONFIGS[name]["text_cfg"]
    needed = {text.get("hf_tokenizer_name"), text.get("hf_model_name")} - {None}
    assert {weight.name.rpartition("/")[0] for weight in encoder.needs()} == needed
    if not needed:
        assert [*encoder.weights()] == [name]
        return
    with pytest.raises(ResourceError, match="on this machine; run `m2hf weights pull`") as raised:
        encoder.weights()
    assert "\n" not in str(raised.value)


def family(config: Mapping[str, Any]) -> str:
    """What decides which code of open_clip, timm and transformers runs, without sizes."""
    timm = re.match(r"[a-z]+", config["vision_cfg"].get("timm_model_name", ""))
    modes = [
        {k: v if type(v) in (str, bool) else type(v) for k, v in config[tower].items()}
        for tower in ("vision_cfg", "text_cfg")
    ]
    names = {"timm_model_name", "hf_tokenizer_name", "hf_model_name"}
    kept = [{k: v for k, v in mode.items() if k not in names} for mode in modes]
    kind = TEXT.get(config["text_cfg"].get("hf_model_name", ""), ("",))[0]
    return str((timm and timm[0], kept, kind, sorted(config)))


FAMILIES = [*{family(CONFIGS[name]): name for name in reversed(NAMES)}.values()]
THEIRS = [name for name in FAMILIES if "hf_model_name" in CONFIGS[name]["text_cfg"]]


@pytest.fixture
def shrunk(weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Encoder]:
    """A model of open_clip that has, of layers that are all alike, one."""
    monkeypatch.setenv(VARIABLE, str(weights_folder))

    def shrink(name: str) -> Encoder:
        config = copy.deepcopy(CONFIGS[name])
        for tower in (config["vision_cfg"], config["text_cfg"]):
            if type(tower.get("layers", 12)) is int:
                tower["layers"] = 1
        monkeypatch.setitem(clip_files.library().factory._MODEL_CONFIGS, name, config)
        return Encoder(model=name, pretrained="")

    return shrink


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in THEIRS])
def test_a_family_of_models_encodes_frames_and_captions(
    name: str, shrunk: Callable[[str], Encoder]
) -> None:
    """With tensors that have shapes and no values."""
    encoder = shrunk(name)
    with torch.device("meta"), torch.inference_mode():
        opened = encoder.open("meta")
        ImageTower(encoder, "meta", "float32", "torch")
        side = opened.model.visual.image_size
        height, width = side if isinstance(side, tuple) else (side, side)
        images = torch.zeros(1, 3, height, width)
        words = torch.zeros(2, opened.tokenizer.context, dtype=torch.long)
        assert opened.model.encode_image(images).shape == (1, encoder.width)
        assert opened.model.encode_text(words).shape == (2, encoder.width)


@pytest.mark.parametrize("name", THEIRS)
def test_a_text_tower_of_transformers_gives_the_sentence_alone(
    name: str, shrunk: Callable[[str], Encoder]
) -> None:
    opened = shrunk(name).open("cpu")
    rows = opened.encode_tokens("a red square")
    assert rows.shape == (1, opened.width)
    np.testing.assert_allclose(rows, opened.encode_sentences(["a red square"]), atol=1e-6)
    assert opened.known_words("red square") == (("red", "square"), ())
