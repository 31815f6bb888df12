"""Cnn14 as `audio`: the embeddings of panns-inference, its checkpoint, and unfit files."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import cnn14_checkpoint
import numpy as np
import pytest
from checkout import DATA

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.audio import Audio
from m2hf.extract.media.decode import DecodedClip, Sound
from m2hf.features import Features
from m2hf.pipelines.config import ExtractConfig
from m2hf.pipelines.required_weights import required_weights

RATE = cnn14_checkpoint.RATE
DIGITS = "0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as PANNs saves it, of full size; and the same as safetensors, next to it."""
    import safetensors.torch
    import torch

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("cnn14") / "made.pth"
    tensors = {n: torch.from_numpy(t) for n, t in cnn14_checkpoint.checkpoint().items()}
    saved = {"iteration": 600000, "model": tensors}
    torch.save(saved, path, _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(tensors, path.with_suffix(".safetensors"))
    return path


def cnn14(path: Path) -> Audio:
    return Audio(model="cnn14", pretrained=str(path))


def features(path: Path, name: str) -> Features:
    samples = cnn14_checkpoint.sounds()[name]
    clip = DecodedClip(len(samples) / RATE, "0" * 64, None, {RATE: Sound(samples, RATE)})
    return cnn14(path).open("cpu").extract(clip)


@pytest.fixture(scope="module")
def made(published: Path) -> dict[str, Features]:
    return {name: features(published, name) for name in cnn14_checkpoint.sounds()}


def test_embeddings_are_those_of_panns_inference(made: dict[str, Features]) -> None:
    """panns-inference ran one window at a time, so this compares batch sizes, too."""
    reference = DATA / "cnn14.json"
    expected = json.loads(reference.read_text(encoding="utf-8"))["embedding"]
    assert {*expected} == {*made}
    for name, rows in expected.items():
        assert made[name].values.shape == (len(rows), 2048)
        np.testing.assert_allclose(made[name].values[:, ::64], rows, atol=1e-4)


def test_windows_are_of_ten_seconds(made: dict[str, Features]) -> None:
    assert made["rising"].start_s.tolist() == [0.0, 2.0]
    assert made["rising"].end_s.tolist() == [10.0, 12.0]
    assert made["rising"].reason == ""
    assert (made["hum"].start_s.tolist(), made["hum"].end_s.tolist()) == ([0.0], [1.5])
    assert made["hum"].reason == "padded from 1.50 to 10.00 s"


def test_either_format_at_any_path(
    published: Path, made: dict[str, Features], tmp_path: Path
) -> None:
    os.link(published, tmp_path / "moved.pth")
    other = published.with_suffix(".safetensors")
    assert cnn14(tmp_path / "moved.pth").fingerprint() == cnn14(published).fingerprint()
    assert cnn14(other).fingerprint() != cnn14(published).fingerprint()
    assert cnn14(other).flags() == ()
    np.testing.assert_array_equal(features(other, "hum").values, made["hum"].values)


def test_a_tensor_of_another_shape_is_one_clear_line(published: Path, tmp_path: Path) -> None:
    import safetensors.torch
    import torch

    state = safetensors.torch.load_file(published.with_suffix(".safetensors"))
    state["fc1.weight"] = torch.ones(512, 2048)
    safetensors.torch.save_file(state, tmp_path / "narrow.safetensors")
    with pytest.raises(ResourceError, match=r"fc1.weight is \[512, 2048\], expected \[2048, 2048"):
        cnn14(tmp_path / "narrow.safetensors").open("cpu")


def test_other_files_are_one_clear_line(tmp_path: Path) -> None:
    import torch

    bands = torch.from_numpy(dict(cnn14_checkpoint.constants())["logmel_extractor.melW"])

    def save(name: str, saved: object) -> Path:
        torch.save(saved, tmp_path / name)
        return tmp_path / name

    whole = save("w.pth", {"model": {"logmel_extractor.melW": bands}})
    half = tmp_path / "half.pth"
    half.write_bytes(whole.read_bytes()[:5000])
    rubbish = tmp_path / "rubbish.safetensors"
    rubbish.write_bytes(b"rubbish" * 99)
    wanted: Mapping[Path, str] = {
        half: ".",
        rubbish: ".",
        save("object.pth", {"model": Path("pickled")}): "Weights only load failed",
        save("list.pth", ["no", "state", "dict"]): "there is no logmel_extractor.melW in it",
        save("flat.pth", {"logmel_extractor.melW": bands}): "there is no logmel_extractor.melW in",
        save("16k.pth", {"model": {"logmel_extractor.melW": bands[:257]}}): ".*not that of 32000 H",
        save("8k.pth", {"model": {"logmel_extractor.melW": bands / 2}}): ".*bands from 50 to 14000",
        whole: "it lacks bn0.bias",
    }
    for path, message in wanted.items():
        start = f"weights {re.escape(str(path))}: damaged, or not a checkpoint of cnn14: "
        with pytest.raises(ResourceError, match=start + message) as raised:
            cnn14(path).open("cpu")
        assert "\n" not in str(raised.value)


def test_the_published_file_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = ExtractConfig.model_validate({"audio": {"model": "cnn14"}})
    (need,) = required_weights(config, ("audio",))
    assert (need.state, need.weight.size_mb, need.weight.pinned) == ("missing", 327, DIGITS)
    assert re.match(
        r"weights cnn14/published \(327 MB, sha256 0dc499\w+\) are not on this machine; "
        r"run `m2hf weights pull`.*, or set extract.audio.pretrained to its path; .*logmel",
        need.message,
    )
    assert need.weight.source is not None
    remote = need.weight.source.resolve()
    assert remote.url == "https://zenodo.org/records/3987831/files/Cnn14_mAP=0.431.pth"
    assert (remote.file, remote.sha256) == ("Cnn14_mAP=0.431.pth", DIGITS)

    kept = tmp_path / "panns_data" / "Cnn14_mAP=0.431.pth"  # as panns-inference keeps it
    kept.parent.mkdir()
    kept.write_bytes(b"cut short")
    (need,) = required_weights(config, ("audio",))
    assert need.state == "damaged"
    assert "it is damaged or a different file" in need.message
    with pytest.raises(
        ConfigError, match="= 'Cnn14': expected cnn14, or the name of an AST or CLAP on"
    ):
        Audio(model="Cnn14").weights()
