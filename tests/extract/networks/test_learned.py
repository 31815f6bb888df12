"""Networks over windows: real formats load exactly, damaged files are one line, times are exact."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.audio import Audio
from m2hf.extract.inference.windows import Windows
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.sound import Sound
from m2hf.extract.motion import Motion, at_even_times
from m2hf.extract.networks import ast_network, video_networks
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.fbank import RATE, Fbank
from m2hf.extract.networks.learned import LearnedExtractor
from m2hf.features import Features, Status
from m2hf.pipelines.config import ExtractConfig, select
from m2hf.pipelines.fastest import least_cosine

REPOSITORY = "someone/an-ast"
REAL_KEY = "audio_spectrogram_transformer.encoder.layer.1.attention.attention.query.weight"


def noise_clip(seconds: float, seed: int = 0) -> DecodedClip:
    """A clip of noise without a video stream."""
    count = round(seconds * RATE)
    samples = np.random.default_rng(seed).normal(0, 0.1, count).astype(np.float32)
    return DecodedClip(
        count / RATE, "0" * 64, Absent("no video stream"), {RATE: Sound(samples, RATE)}
    )


def seen(declared: Motion, start_s: NDArray[np.float64], end_s: float) -> DecodedClip:
    """A silent clip of frames of noise that begin at `start_s`."""
    width, height = declared.view.size or (0, 0)
    shape = (len(start_s), height, width, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    frames = Frames(pixels, start_s, np.append(start_s[1:], end_s))
    return DecodedClip(end_s, "0" * 64, {declared.view: frames}, Absent("no audio stream"))


def features(declared: LearnedExtractor, clip: DecodedClip) -> Features:
    return declared.open("cpu").extract(clip)


# Windows


@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(0, 3000))
def test_windows_cover_the_clip_and_none_is_longer(length: int, share: float, total: int) -> None:
    starts = Windows(length, share).starts(total)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert starts[-1] + length == max(total, length)
    assert all(b - a <= max(1, round(length * (1 - share))) for a, b in pairwise(starts))


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
    feature_extractor().save_pretrained(folder)
    return folder, model


def feature_extractor() -> Any:
    import warnings

    from transformers import ASTFeatureExtractor

    with warnings.catch_warnings():  # 128 bands of 257 bins: some are empty, as in training
        warnings.simplefilter("ignore")
        return ASTFeatureExtractor()


@pytest.mark.parametrize("count", [163840, 163839, 20000, 400])
def test_spectrograms_are_those_of_transformers(count: int) -> None:
    samples = noise_clip(count / RATE).sound(RATE)
    assert samples is not None
    expected = feature_extractor()(samples.samples, sampling_rate=RATE, return_tensors="np")
    made = Fbank(1024, 128, -4.2677393, 4.5689974).spectrogram(samples.samples)
    np.testing.assert_allclose(made, expected["input_values"][0], atol=1e-4)


def test_a_saved_folder_gives_what_transformers_gives(saved: tuple[Path, Any]) -> None:
    import safetensors.torch
    import torch

    folder, model = saved
    assert REAL_KEY in safetensors.torch.load_file(folder / "model.safetensors")
    made = features(Audio(pretrained=str(folder)), noise_clip(4.0))
    sound = noise_clip(4.0).sound(RATE)
    assert isinstance(sound, Sound)
    spectrogram = feature_extractor()(sound.samples, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = model.audio_spectrogram_transformer(**spectrogram).pooler_output
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
    made = features(cached, noise_clip(3.0))
    np.testing.assert_array_equal(made.values, features(folder, noise_clip(3.0)).values)


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
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**values, **more}), encoding="utf-8")

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
        (
            halved,
            "model.safetensors: damaged, or not an AST checkpoint that fits its config.json: .",
        ),
        (without_a_tensor, r"model.safetensors: damaged, or not an AST .*: it lacks layers.1"),
        (altered("config.json", hidden_size=48), "that fits its config.json: ."),
        (altered("config.json", model_type="bert"), "config.json: of a model of type 'bert'"),
        (altered("config.json", hidden_size="wide"), "config.json: .*hidden_size"),
        (altered("preprocessor_config.json", sampling_rate=8000), "sampling_rate is 8000, expec"),
        (altered("preprocessor_config.json", max_length=512), "max_length is 512, expected 1024"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not JSON"),
        (altered("config.json", num_hidden_layers=10**9), "num_hidden_layers is 1000000000, exp"),
        (altered("config.json", hidden_size=True), "config.json: hidden_size is True, expected 1"),
        (altered("preprocessor_config.json", mean="x"), "mean is 'x', expected a number"),
        (altered("preprocessor_config.json", std=1e300), "std is 1e.300, expected a number"),
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
    with pytest.raises(
        ResourceError,
        match=r"MIT/ast\S+ \(346 MB\) are not on this machine; run `m2hf weights pull`.*logm",
    ):
        Audio().weights()
    with pytest.raises(
        ResourceError, match=r"\(126 MB, sha256 91a641e6\) are not .* use flow in place of"
    ):
        Motion().weights()
    with pytest.raises(
        ConfigError, match="not the name of a repository of the Hugging Face hub, such as ORG"
    ):
        Audio(model="a/b/c").weights()
    with pytest.raises(ConfigError, match="with random weights, expected one of MIT/ast"):
        Audio(model=REPOSITORY, pretrained="").open("cpu")


@pytest.mark.parametrize("seconds", [0.01, 10.24, 10.25, 26.0])
def test_audio_windows_cover_the_sound(seconds: float) -> None:
    declared = Audio(model=ast_network.TINY, pretrained="", batch=2)
    clip = noise_clip(seconds)
    made = features(declared, clip)
    assert made.start_s[0] == 0.0
    assert made.end_s[-1] == clip.duration_s
    assert (made.start_s[1:] < made.end_s[:-1]).all()
    assert len(made.values) == {0.01: 1, 10.24: 1, 10.25: 2, 26.0: 5}[seconds]
    assert bool(made.reason) == (seconds < 10.24)
    assert declared.flags() == ("untrained",)


# Motion


NAMES = tuple(video_networks.NETWORKS)


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    """torchvision's networks with their classifiers and random weights."""
    import torch

    import_torchvision()
    from torchvision.models import video

    torch.manual_seed(5)
    return {name: getattr(video, name)(weights=None).eval() for name in NAMES}


def theirs(name: str) -> Any:
    """torchvision's own entry: the URL of the weights, and the preprocessing of frames."""
    from torchvision.models import get_model_weights

    return get_model_weights(name).KINETICS400_V1


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_networks_is_torchvisions(networks: dict[str, Any], name: str) -> None:
    entry, known = theirs(name), video_networks.NETWORKS[name]
    prepared = entry.transforms()
    assert entry.url.rpartition("/")[2] == known.kinetics
    assert known.size_mb == round(entry.meta["_file_size"] * 2**20 / 1e6)
    assert (prepared.resize_size, prepared.crop_size) == ([*known.size[::-1]], [known.crop] * 2)
    assert (prepared.mean, prepared.std) == ([*video_networks.MEAN], [*video_networks.STD])


@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_gives_what_torchvision_gives(
    networks: dict[str, Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From torch's cache: the classifier on the features gives the whole network's scores."""
    import torch

    place = tmp_path / "hub" / "checkpoints" / "made.pth"
    place.parent.mkdir(parents=True)
    torch.save(networks[name].state_dict(), place, _use_new_zipfile_serialization=name == "s3d")
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    kinetics = f"made-{digest[:8]}.pth"
    place.rename(place.with_name(kinetics))
    known = replace(video_networks.NETWORKS[name], kinetics=kinetics)
    monkeypatch.setattr(video_networks, "NETWORKS", {name: known})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    declared = Motion.model_validate({"model": name})
    assert declared.declared({})["weights"] == {f"{name}/kinetics400": digest}
    assert declared.flags() == ()

    clip = seen(declared, np.arange(16) / 15, 16 / 15)
    made = features(declared, clip)
    assert made.values.shape == (1, declared.width)
    frames = clip.frames(declared.view)
    assert isinstance(frames, Frames)
    images = torch.from_numpy(frames.pixels).permute(0, 3, 1, 2)
    network = networks[name]
    with torch.inference_mode():
        expected = network(theirs(name).transforms()(images)[None])
        rows = torch.from_numpy(made.values)
        if name == "s3d":
            scores = network.classifier(rows[:, :, None, None, None]).flatten(1)
        else:
            scores = network.fc(rows)
    torch.testing.assert_close(scores, expected, atol=1e-3, rtol=1e-3)


def test_a_file_gives_the_same_wherever_it_lies_and_in_either_format(
    networks: dict[str, Any], tmp_path: Path
) -> None:
    import safetensors.torch
    import torch

    state = networks["s3d"].state_dict()
    torch.save(state, tmp_path / "a.pth")
    shutil.copy(tmp_path / "a.pth", tmp_path / "b.pth")
    safetensors.torch.save_file(state, tmp_path / "c.safetensors")
    made = [
        Motion(model="s3d", pretrained=str(tmp_path / name))
        for name in ("a.pth", "b.pth", "c.safetensors")
    ]
    assert made[0].fingerprint() == made[1].fingerprint() != made[2].fingerprint()
    clip = seen(made[0], np.arange(4) / 15, 4 / 15)
    rows = [features(made[i], clip).values for i in (0, 2)]
    np.testing.assert_array_equal(*rows)


def test_other_files_of_weights_are_one_clear_line(
    networks: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    whole = tmp_path / "whole.pth"
    torch.save(networks["s3d"].state_dict(), whole)
    data = whole.read_bytes()
    for name, content in (("half.pth", data[: len(data) // 2]), ("rubbish.pth", b"rubbish" * 99)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).with_suffix(".safetensors").write_bytes(content)
    torch.save(["no", "state", "dict"], tmp_path / "list.pth")
    torch.save(Path("pickled"), tmp_path / "object.pth")
    damaged = [p for p in sorted(tmp_path.iterdir()) if p != whole]
    assert len(damaged) == 6
    for path, model in [*((path, "s3d") for path in damaged), (whole, "r2plus1d_18")]:
        declared = Motion.model_validate({"model": model, "pretrained": str(path)})
        wanted = f"{re.escape(str(path))}: damaged, or not a state dict of {model}: ."
        with pytest.raises(ResourceError, match=wanted) as raised:
            declared.open("cpu")
        assert "\n" not in str(raised.value)
    with pytest.raises(ResourceError, match="no such file: kinetics600"):
        Motion(pretrained="kinetics600").weights()

    cached = tmp_path / "hub" / "checkpoints" / video_networks.NETWORKS["s3d"].kinetics
    cached.parent.mkdir(parents=True)
    cached.write_bytes(data)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ResourceError, match="expected d76dad2f; it is damaged or a different file"):
        Motion(model="s3d").weights()


@given(
    rate=st.sampled_from([5.0, 10.0, 24.0, 25.0, 30000 / 1001, 30.0, 60.0]),
    count=st.integers(2, 300),
    fps=st.sampled_from([4.0, 8.0, 15.0, 25.0]),
)
def test_each_step_shows_the_frame_of_its_middle(rate: float, count: int, fps: float) -> None:
    start_s = np.arange(count) / rate
    frames = Frames(np.zeros((count, 1, 1, 3), np.uint8), start_s, (np.arange(count) + 1) / rate)
    shown = at_even_times(frames, fps)
    assert len(shown) == max(1, int(np.ceil(count / rate * fps - 1e-6)))
    for step, frame in enumerate(shown):
        middle_s = min((step + 0.5) / fps, start_s[-1])
        assert start_s[frame] <= middle_s
        assert frame + 1 == count or start_s[frame + 1] > middle_s


def test_motion_windows_cover_a_late_and_uneven_stream() -> None:
    import torch

    torch.set_num_threads(1)
    start_s = np.array([0.4, 0.5, 0.9, 1.0, 1.6, 2.0, 2.7, 3.3, 4.5, 5.0])
    rows = []
    for batch in (1, 3):
        declared = Motion(model="s3d", pretrained="", fps=8.0, overlap=0.25, batch=batch)
        made = features(declared, seen(declared, start_s, 5.3))
        assert made.start_s.tolist() == [0.4, 1.9, 3.4]
        assert made.end_s.tolist() == pytest.approx([2.4, 3.9, 5.3])
        assert made.reason == ""
        rows.append(made.values)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-4)
    short = features(declared, seen(declared, start_s[:3], 1.0))
    assert short.reason == "padded from 0.60 to 2.00 s"
    assert (short.start_s.tolist(), short.end_s.tolist()) == ([0.4], [1.0])
    one = features(declared, seen(declared, start_s[:1], 1.0))
    assert (one.status, one.reason) == (Status.EMPTY, "fewer than two frames")


# Declarations


def test_other_batches_of_sound_agree() -> None:
    rows = [
        features(Audio(model=ast_network.TINY, pretrained="", batch=batch), noise_clip(26.0)).values
        for batch in (1, 2, 5)
    ]
    for other in rows[1:]:
        np.testing.assert_allclose(other, rows[0], atol=1e-4)


def test_bfloat16_of_a_processor_gives_other_bits_and_the_same_vectors() -> None:
    whole, half = (
        features(Audio(model=ast_network.TINY, pretrained="", precision=p), noise_clip(26.0)).values
        for p in ("float32", "bfloat16")
    )
    assert not np.array_equal(whole, half)
    assert least_cosine(whole, half) > 0.999


def test_the_config_selects_the_extractors() -> None:
    usual = ExtractConfig().extractors
    known = ExtractConfig().names
    assert select("", usual, known) == usual
    assert select("flow,clip", usual, known) == ("clip", "flow")
    assert ExtractConfig(extractors=("logmel",)).extractors == ("logmel",)
    with pytest.raises(ValueError, match="extractors name 'sound'; extractors: clip, caption"):
        ExtractConfig(extractors=("sound",))
