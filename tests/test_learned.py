"""Networks over windows: real formats load exactly, damaged files are one line, times are exact."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract import ast_weights, video_networks
from m2hf.extract.audio import Audio
from m2hf.extract.compat import import_torchvision
from m2hf.extract.fbank import RATE, Fbank
from m2hf.extract.learned import Learned
from m2hf.extract.media import DecodedClip, Frames, Sound
from m2hf.extract.motion import Motion, at_even_times
from m2hf.extract.windows import Windows
from m2hf.features import Features, Status
from m2hf.pipelines.config import ExtractConfig, select

REPOSITORY = "someone/an-ast"
REAL_KEY = "audio_spectrogram_transformer.encoder.layer.1.attention.attention.query.weight"


def heard(seconds: float, seed: int = 0) -> DecodedClip:
    """A clip of noise without pictures."""
    count = round(seconds * RATE)
    samples = np.random.default_rng(seed).normal(0, 0.1, count).astype(np.float32)
    return DecodedClip(count / RATE, "0" * 64, None, {RATE: Sound(samples, RATE)})


def seen(declared: Motion, start_s: NDArray[np.float64], end_s: float) -> DecodedClip:
    """A silent clip of frames of noise that begin at `start_s`."""
    width, height = declared.view.size or (0, 0)
    shape = (len(start_s), height, width, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    frames = Frames(pixels, start_s, np.append(start_s[1:], end_s))
    return DecodedClip(end_s, "0" * 64, {declared.view: frames}, None)


def features(declared: Learned, clip: DecodedClip) -> Features:
    return declared.open("cpu").extract(clip)


# Windows


@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(0, 3000))
def test_windows_cover_the_clip_and_none_is_longer(length: int, share: float, total: int) -> None:
    starts = Windows(length, share).starts(total)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert starts[-1] + length == max(total, length)
    assert all(b - a <= max(1, round(length * (1 - share))) for a, b in zip(starts, starts[1:]))


# Audio


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A small AST with a classifier as transformers saves it, and the model."""
    import torch

    import_torchvision()
    from transformers import ASTConfig, ASTForAudioClassification

    folder = tmp_path_factory.mktemp("ast") / "saved"
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(3)
    model = ASTForAudioClassification(ASTConfig(**sizes, intermediate_size=48, num_labels=5)).eval()
    model.save_pretrained(folder)
    picture_extractor().save_pretrained(folder)
    return folder, model


def picture_extractor() -> Any:
    import warnings

    from transformers import ASTFeatureExtractor

    with warnings.catch_warnings():  # 128 bands of 257 bins: some are empty, as in training
        warnings.simplefilter("ignore")
        return ASTFeatureExtractor()


@pytest.mark.parametrize("count", [163840, 163839, 20000, 400])
def test_pictures_of_sound_are_those_of_transformers(count: int) -> None:
    samples = heard(count / RATE).sound(RATE)
    assert samples is not None
    expected = picture_extractor()(samples.samples, sampling_rate=RATE, return_tensors="np")
    made = Fbank(1024, 128, -4.2677393, 4.5689974).picture(samples.samples)
    np.testing.assert_allclose(made, expected["input_values"][0], atol=1e-4)


def test_a_saved_folder_gives_what_transformers_gives(saved: tuple[Path, Any]) -> None:
    import safetensors.torch
    import torch

    folder, model = saved
    assert REAL_KEY in safetensors.torch.load_file(folder / "model.safetensors")
    made = features(Audio(pretrained=str(folder)), heard(4.0))
    sound = heard(4.0).sound(RATE)
    assert sound is not None
    picture = picture_extractor()(sound.samples, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = model.audio_spectrogram_transformer(**picture).pooler_output
    np.testing.assert_allclose(made.values, expected.numpy(), atol=1e-4)
    assert made.end_s.tolist() == [4.0]
    assert made.reason == "padded from 4.00 to 10.24 s"


def test_the_hubs_cache_is_read_as_a_folder_is(
    saved: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / f"models--{REPOSITORY.replace('/', '--')}"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40, encoding="ascii")
    (kept / "blobs").mkdir()
    (kept / "snapshots" / ("0" * 40)).mkdir(parents=True)
    for path in saved[0].iterdir():
        blob = kept / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (kept / "snapshots" / ("0" * 40) / path.name).symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached, folder = Audio(model=REPOSITORY), Audio(pretrained=str(saved[0]))
    assert sorted(cached.weights().values()) == sorted(folder.weights().values())
    digest = hashlib.sha256((saved[0] / "model.safetensors").read_bytes()).hexdigest()
    assert cached.declared({})["weights"][f"{REPOSITORY}/model.safetensors"] == digest
    assert cached.flags() == ()
    assert cached.width == 24
    made = features(cached, heard(3.0))
    np.testing.assert_array_equal(made.values, features(folder, heard(3.0)).values)


def test_the_fingerprint_is_of_the_files_and_not_of_their_place(
    saved: tuple[Path, Any], tmp_path: Path
) -> None:
    moved = shutil.copytree(saved[0], tmp_path / "moved")
    base = Audio(pretrained=str(saved[0])).fingerprint()
    assert Audio(pretrained=str(moved)).fingerprint() == base
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        kept = (moved / name).read_bytes()
        (moved / name).write_bytes(kept + b" ")
        assert Audio(pretrained=str(moved)).fingerprint() != base
        (moved / name).write_bytes(kept)


def altered(name: str, **more: Any) -> Callable[[Path], None]:
    def alter(folder: Path) -> None:
        said = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**said, **more}), encoding="utf-8")

    return alter


def halved(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_a_tensor(folder: Path) -> None:
    import safetensors.torch

    state = safetensors.torch.load_file(folder / "model.safetensors")
    del state[REAL_KEY]
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (halved, "model.safetensors: damaged, or not of the network that config.json describes"),
        (without_a_tensor, r"model.safetensors: not an AST checkpoint: it lacks layers.1"),
        (altered("config.json", hidden_size=48), "not of the network that config.json"),
        (altered("config.json", model_type="bert"), "config.json: of a model of type 'bert'"),
        (altered("config.json", hidden_size="wide"), "config.json: .*hidden_size"),
        (altered("preprocessor_config.json", sampling_rate=8000), "sampling_rate is 8000, expec"),
        (altered("preprocessor_config.json", max_length=512), "max_length is 512, expected 1024"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not a JSON file"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: no such file"),
    ],
)
def test_other_folders_are_one_clear_line(
    saved: tuple[Path, Any], tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = shutil.copytree(saved[0], tmp_path / "damaged")
    damage(folder)
    with pytest.raises(ResourceError, match=message) as raised:
        Audio(pretrained=str(folder)).open("cpu")
    assert "\n" not in str(raised.value)


def test_missing_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ResourceError, match=r"MIT/ast\S+ are not on this machine; run `hf .*logm"):
        Audio().weights()
    with pytest.raises(ResourceError, match=r"\(126 MB, sha256 91a641e6\) are not .* flow takes"):
        Motion().weights()
    with pytest.raises(ConfigError, match="no name of a model on the hub, such as MIT/ast"):
        Audio(model="a/b/c").weights()
    with pytest.raises(ConfigError, match="with random weights there are MIT/ast"):
        Audio(model=REPOSITORY, pretrained="").open("cpu")


@pytest.mark.parametrize("seconds", [0.01, 10.24, 10.25, 26.0])
def test_audio_windows_cover_the_sound(seconds: float) -> None:
    declared = Audio(model=ast_weights.TINY, pretrained="", batch=2)
    clip = heard(seconds)
    made = features(declared, clip)
    assert made.start_s[0] == 0.0
    assert made.end_s[-1] == clip.duration_s
    assert (made.start_s[1:] < made.end_s[:-1]).all()
    assert len(made.values) == {0.01: 1, 10.24: 1, 10.25: 2, 26.0: 5}[seconds]
    assert bool(made.reason) == (seconds < 10.24)
    assert declared.flags() == ("untrained",)


# Motion


@pytest.mark.parametrize("name", ["r2plus1d_18", "s3d"])
def test_the_table_of_networks_is_torchvisions(name: str) -> None:
    import_torchvision()
    from torchvision.models import video

    theirs, ours = video.get_model_weights(name) if hasattr(video, "get_model_weights") else None, 0
    assert theirs, ours


def state_of(name: str, seed: int) -> tuple[Any, dict[str, Any]]:
    """A network of torchvision with its classifier, and its state dict."""
    import torch

    import_torchvision()
    from torchvision.models import video

    torch.manual_seed(seed)
    network = getattr(video, name)(weights=None).eval()
    return network, network.state_dict()
