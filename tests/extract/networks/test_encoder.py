"""CLIPs of open_clip from a folder and from the hub: the same vectors as open_clip's own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_folders import STYLES, write_clip_folder
from weights_server import serving

from m2hf.errors import ConfigError, M2hfError, ResourceError
from m2hf.extract.caption import CaptionEncoder
from m2hf.extract.networks.clip_files import library
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.networks.preprocessing import ImageTower
from m2hf.extract.weights.digests import digest_of
from m2hf.extract.weights.folder import VARIABLE, WeightsFolder
from m2hf.features import unit_rows
from m2hf.pipelines.config import ExtractConfig

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SENTENCES = ["a red square moves", "Two dogs.", "a red circle " * 9]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    library()
    root: Path = tmp_path_factory.mktemp("clips")
    return {style: write_clip_folder(root / style, style) for style in STYLES}


def theirs(folder: Path) -> tuple[Any, Any, Any]:
    """open_clip's own model, preprocessing and tokenizer of a folder."""
    name = f"local-dir:{folder}"
    model, _, preprocess = library().create_model_and_transforms(name)
    return model.eval(), preprocess, library().get_tokenizer(name)


@pytest.mark.parametrize("style", STYLES)
def test_a_folder_gives_what_open_clip_gives(folders: dict[str, Path], style: str) -> None:
    model, preprocess, tokenize = theirs(folders[style])
    encoder = Encoder(model=str(folders[style]))
    opened = encoder.open("cpu")
    with torch.inference_mode():
        expected = unit_rows(model.encode_text(tokenize(SENTENCES)).numpy())
        np.testing.assert_allclose(opened.encode_sentences(SENTENCES), expected, atol=1e-6)
        pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), np.uint8)
        from PIL import Image

        images = torch.stack([preprocess(Image.fromarray(frame)) for frame in pixels])
        tower = ImageTower(encoder, "cpu", "float32", "pillow")
        frames = tower.forward(torch.from_numpy(tower.prepare(pixels)))
        np.testing.assert_allclose(frames, model.encode_image(images), atol=1e-6)
    assert encoder.width == opened.width == 24
    assert encoder.flags() == ()


@pytest.mark.parametrize("style", STYLES)
def test_each_word_has_a_row_of_its_own(folders: dict[str, Path], style: str) -> None:
    """Row 0 is the sentence; another word changes the rows from it on, not those before it where
    the tower reads from left to right."""
    opened = Encoder(model=str(folders[style])).open("cpu")
    rows = {text: opened.encode_tokens(text) for text in ("red square moves", "red square dog")}
    one, other = rows.values()
    assert len(one) == 1 + opened.token_count("red square moves")
    np.testing.assert_allclose(one[:1], opened.encode_sentences(["red square moves"]), atol=1e-6)
    changed = np.abs(one[:4] - other[:4]).max(axis=1)
    assert changed[3] > 1e-3
    assert changed[0] > 1e-6
    if not STYLES[style][0].get("no_causal_mask"):
        np.testing.assert_allclose(one[1:3], other[1:3], atol=1e-6)


@pytest.mark.parametrize("style", STYLES)
def test_a_long_caption_is_cut_to_what_fits(folders: dict[str, Path], style: str) -> None:
    opened = Encoder(model=str(folders[style])).open("cpu")
    ids = opened.tokenizer(["red " * 50])[0]
    first, most = opened.tokenizer.first, opened.max_tokens
    assert {opened.tokenizer.encode("red")[0]} == {*ids[first : first + most].tolist()}
    made = (
        CaptionEncoder(encoder=Encoder(model=str(folders[style]))).open("cpu").extract("red " * 50)
    )
    assert made.values.shape == (1 + most, 24)
    assert made.reason == f"cut to {most} of 50 tokens"


def test_the_fingerprint_is_of_the_files_and_not_of_their_place(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    moved = shutil.copytree(folders["siglip"], tmp_path / "moved")
    names = {"open_clip_config.json", "checkpoint", "tokenizer", "tokenizer_config.json"}
    base = CaptionEncoder(encoder=Encoder(model=str(folders["siglip"])))
    assert {*base.declared({})["weights"]} == names | {"config.json"}
    for model in (str(moved), f"local-dir:{moved}"):
        assert CaptionEncoder(encoder=Encoder(model=model)).fingerprint() == base.fingerprint()
    for path in moved.iterdir():
        kept = path.read_bytes()
        path.write_bytes(kept + b" ")
        changed = CaptionEncoder(encoder=Encoder(model=str(moved))).fingerprint()
        assert changed != base.fingerprint()
        path.write_bytes(kept)


def test_a_repository_of_the_hub_is_read_from_the_weights_folder(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its configuration names the repository of the tokenizer, which is a weight then."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    encoder = Encoder(model="hf-hub:someone/a-clip")
    assert encoder.model_dump()["pretrained"] == "published"
    assert len(encoder.needs()) == 2
    with pytest.raises(ResourceError, match=r"someone/a-clip/\S+ .*run `m2hf weights pull`"):
        encoder.weights()
    folder, source = WeightsFolder(tmp_path), folders["siglip"]

    def fetch(repository: str, part: str, file: str) -> None:
        target = folder.target(f"{repository}/{part}", file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / file, target)
        folder.record(f"{repository}/{part}", target, digest_of((target,)), "")

    fetch("someone/a-clip", "open_clip_config.json", "open_clip_config.json")
    assert {w.name.rpartition("/")[0] for w in encoder.needs()} == {
        "someone/a-clip",
        "someone/siglip",
    }
    fetch("someone/a-clip", "checkpoint", "open_clip_model.safetensors")
    fetch("someone/siglip", "tokenizer", "tokenizer.json")
    fetch("someone/siglip", "tokenizer_config.json", "tokenizer_config.json")
    fetch("someone/siglip", "config.json", "open_clip_config.json")
    local = Encoder(model=str(source)).open("cpu").encode_sentences(SENTENCES)
    np.testing.assert_array_equal(encoder.open("cpu").encode_sentences(SENTENCES), local)


def test_a_pull_gets_the_tokenizer_that_the_configuration_names(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, m2hf: Command
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    source, model = folders["siglip"], "--set=extract.encoder.model=hf-hub:someone/a-clip"
    with serving() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.root)
        for path in source.iterdir():
            owners = ["someone/siglip"] if "token" in path.name else ["someone/a-clip"]
            owners += ["someone/siglip"] if path.name == "open_clip_config.json" else []
            for owner in owners:
                served.on_hub(owner, path.name, path.read_bytes(), path.suffix != ".json")
        done = m2hf("weights", "pull", "--only", "clip,caption", model)
    assert done.returncode == 0, done.stderr
    assert "5 weight files downloaded" in done.stdout
    assert (
        "5 weight files checked, 0 wrong" in m2hf("weights", "check", "--only=clip", model).stdout
    )
    local = Encoder(model=str(source)).open("cpu").encode_sentences(SENTENCES)
    pulled = Encoder(model="hf-hub:someone/a-clip").open("cpu").encode_sentences(SENTENCES)
    np.testing.assert_array_equal(pulled, local)


def test_a_folder_with_random_weights_is_flagged(folders: dict[str, Path]) -> None:
    drawn = Encoder(model=str(folders["siglip"]), pretrained="")
    assert drawn.flags() == ("untrained",)
    assert drawn.weights()["folder"].startswith("untrained: seed 0")
    assert "checkpoint" not in drawn.weights()
    again = Encoder(model=str(folders["siglip"]), pretrained="", seed=1)
    one, two = (e.open("cpu").encode_sentences(SENTENCES) for e in (drawn, again))
    assert not np.allclose(one, two)


def altered(**changes: Any) -> Callable[[Path], None]:
    """Change keys of the text tower's configuration."""

    def alter(folder: Path) -> None:
        path = folder / "open_clip_config.json"
        config = json.loads(path.read_text())
        config["model_cfg"]["text_cfg"].update(changes)
        path.write_text(json.dumps(config))

    return alter


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def written(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (removed("tokenizer.json"), "weights tokenizer: no such file: .*tokenizer.json"),
        (removed("tokenizer_config.json"), "no such file: .*tokenizer_config.json"),
        (removed("open_clip_config.json"), "no such file: .*open_clip_config.json"),
        (removed("open_clip_model.safetensors"), "no such file: .*open_clip_model.safetensors"),
        (written("open_clip_config.json", "{"), "open_clip_config.json: not JSON"),
        (written("open_clip_config.json", '{"a": 1}'), "not the configuration of an open_clip mo"),
        (written("tokenizer_config.json", "{}"), "damaged, or not a tokenizer .*: Asking to pad"),
        (written("tokenizer.json", "{}"), "tokenizer.json: damaged, or not a tokenizer of transf"),
        (written("open_clip_model.safetensors", "x"), "damaged, or not a checkpoint that fits"),
        (altered(width=48), "damaged, or not a checkpoint that fits its configuration: ."),
        (altered(layers=10**9), "layers is 1000000000, expected 1 to 256"),
        (altered(hf_model_name=3), "text_cfg names 3, expected a hub repository"),
        (altered(tokenizer_kwargs={"trust_remote_code": True}), "'trust_remote_code', expected on"),
    ],
)
def test_other_folders_are_one_clear_line(
    folders: dict[str, Path], tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = shutil.copytree(folders["siglip"], tmp_path / "damaged")
    damage(folder)
    encoder = Encoder(model=str(folder))
    with pytest.raises(M2hfError, match=message) as raised:
        encoder.open("cpu")
    assert "\n" not in str(raised.value)


def test_a_vocabulary_of_sentencepiece_says_what_reads_it(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(folders["siglip"], tmp_path / "pieces")
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    monkeypatch.setattr("m2hf.extract.networks.clip_tokenizer.find_spec", lambda name: None)
    with pytest.raises(ResourceError, match=r"spiece\.model: a vocabulary .* pip install sentence"):
        Encoder(model=str(folder)).open("cpu")


def test_weights_of_another_model_are_refused_for_a_repository() -> None:
    with pytest.raises(ValueError, match="'laion2b', but model 'hf-hub:a/b' has weights of its"):
        Encoder(model="hf-hub:a/b", pretrained="laion2b")
    with pytest.raises(ConfigError, match="not the name of a repository of the Hugging Face hub"):
        Encoder(model="hf-hub:a/b/c").weights()
    shared = ExtractConfig.model_validate({"encoder": {"model": "hf-hub:a/b"}})
    assert shared.model_dump()["clip"]["encoder"]["pretrained"] == "published"


def test_a_process_that_imports_nothing_before_opens_a_folder(folders: dict[str, Path]) -> None:
    """transformers imports torchvision, which needs `compat` first."""
    program = (
        "import sys; from m2hf.extract.networks.encoder import Encoder; "
        "print(Encoder(model=sys.argv[1]).open('cpu').encode_sentences(['red']).shape)"
    )
    command = [sys.executable, "-c", program, str(folders["siglip"])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "(1, 24)\n"
