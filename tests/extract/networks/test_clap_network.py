"""CLAP's audio tower from a folder as transformers saves it: the same vectors as the library's."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2hf.errors import ResourceError
from m2hf.extract.audio import Audio
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.sound import Sound
from m2hf.extract.networks import hub_model
from m2hf.extract.networks.clap_network import CLAP, RATE, TINY, UNFUSED
from m2hf.extract.networks.compat import import_torchvision
from m2hf.features import Features, unit_rows


def noise(seconds: float) -> Any:
    samples = np.random.default_rng(1).normal(0, 0.1, round(seconds * RATE))
    return samples.astype(np.float32)


def features(declared: Audio, seconds: float) -> Features:
    sound = {RATE: Sound(noise(seconds), RATE)}
    clip = DecodedClip(seconds, "0" * 64, Absent("no video stream"), sound)
    return declared.open("cpu").extract(clip)


@pytest.fixture(scope="module", params=["unfused", "fused"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder, and the whole CLAP in it with random weights."""
    import_torchvision()
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    fused = request.param == "fused"
    sizes = {
        key: dict(value) if isinstance(value, dict) else value for key, value in TINIEST.items()
    }
    sizes["audio_config"] |= {"enable_fusion": fused}
    if fused:
        sizes["audio_config"] |= {"fusion_type": "aff_2d"}
    torch.manual_seed(4)
    model = ClapModel(ClapConfig(**sizes)).eval()
    folder: Path = tmp_path_factory.mktemp("clap")
    model.save_pretrained(folder)
    extractor = ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc")
    extractor.save_pretrained(folder)
    return folder, model, extractor


TINIEST: dict[str, Any] = dict(CLAP.untrained[TINY])


@pytest.mark.parametrize("seconds", [10.0, 3.0])
def test_a_saved_folder_gives_what_transformers_gives(saved: Any, seconds: float) -> None:
    folder, model, extractor = saved
    inputs = extractor(noise(seconds), sampling_rate=RATE, return_tensors="pt")
    inputs["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)  # the library draws one by chance
    with torch.inference_mode():
        embedded = model.get_audio_features(**inputs)
        expected = getattr(embedded, "pooler_output", embedded)
    made = features(Audio(pretrained=str(folder)), seconds)
    np.testing.assert_allclose(made.values, unit_rows(expected.numpy()), atol=1e-5)
    assert made.reason == ("" if seconds == 10 else "padded from 3.00 to 10.00 s")
    assert made.end_s.tolist() == [seconds]


def test_windows_cover_the_sound(saved: Any) -> None:
    made = features(Audio(pretrained=str(saved[0]), overlap=0.0), 24.0)
    assert made.start_s.tolist() == [0.0, 10.0, 14.0]
    assert made.end_s.tolist() == [10.0, 20.0, 24.0]
    np.testing.assert_allclose(np.linalg.norm(made.values, axis=1), 1.0, atol=1e-5)


def test_other_folders_are_one_clear_line(saved: Any, tmp_path: Path) -> None:
    damages = [
        (
            "preprocessor_config.json",
            {"sampling_rate": 16000},
            "sampling_rate is 16000, expected 48",
        ),
        ("preprocessor_config.json", {"feature_size": 80}, "feature_size is 80, expected 64"),
        ("preprocessor_config.json", {"truncation": "cut"}, "truncation is 'cut', expected '"),
        (
            "preprocessor_config.json",
            {"max_length_s": 10**6},
            "max_length_s is 1000000, expected 1",
        ),
        ("config.json", {"model_type": "bert"}, "type 'bert', expected one of 'audio-spectrogram"),
        ("config.json", {"audio_config": 3}, "audio_config isn't an object"),
        (
            "config.json",
            {"projection_dim": 25},
            "not a CLAP checkpoint that fits its config.json: .",
        ),
    ]
    for number, (name, change, message) in enumerate(damages):
        folder = Path(shutil.copytree(saved[0], tmp_path / str(number)))
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**values, **change}), encoding="utf-8")
        with pytest.raises(ResourceError, match=message) as raised:
            Audio(pretrained=str(folder)).open("cpu")
        assert "\n" not in str(raised.value)


def test_the_published_architecture_has_the_published_width() -> None:
    declared = Audio(model=UNFUSED, pretrained="")
    assert (declared.width, declared.sample_rates()) == (512, (48000,))
    config = CLAP.configuration(UNFUSED, ())
    with torch.device("meta"), torch.inference_mode():
        tower = CLAP.load(config.audio_config, (), 0, "meta")
        made = tower(torch.zeros(2, 1, 1001, 64), is_longer=torch.zeros(2, 1, dtype=torch.bool))
    assert made.audio_embeds.shape == (2, 512)


def test_weights_of_the_hub_may_be_pickled_tensors() -> None:
    weights = Audio(model=UNFUSED).needs()
    assert [weight.name for weight in weights] == [
        f"{UNFUSED}/{name}"
        for name in ("model.safetensors", "config.json", "preprocessor_config.json")
    ]
    assert "pytorch_model.bin" in str(weights[0].source)
    assert hub_model.choose((CLAP,), TINY, (), "extract.audio") is CLAP


def test_a_file_of_pickled_tensors_gives_the_same(saved: Any, tmp_path: Path) -> None:
    import safetensors.torch

    folder = Path(shutil.copytree(saved[0], tmp_path / "pickled"))
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    one, two = (features(Audio(pretrained=str(f)), 3.0).values for f in (saved[0], folder))
    np.testing.assert_allclose(one, two, atol=1e-6)
