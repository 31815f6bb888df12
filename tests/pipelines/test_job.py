"""A job uses the weights that it started with, in every process, or fails."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import media
import pytest

from m2hf.errors import MismatchError, ResourceError
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.weights.folder import VARIABLE, WeightsFolder
from m2hf.manifest import Card, Manifest, Row
from m2hf.pipelines import extraction
from m2hf.pipelines.executors import SerialExecutor
from m2hf.pipelines.job import Job
from m2hf.shard import Shard

Checkpoint = Callable[[int], Path]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The tiny CLIP of a seed, as a file."""
    import safetensors.torch
    import torch

    Encoder(model="m2hf-tiny", pretrained="").open("cpu")  # makes the model known
    import open_clip

    folder = tmp_path_factory.mktemp("checkpoints")

    def make(seed: int) -> Path:
        torch.manual_seed(seed)
        path = folder / f"{seed}.safetensors"
        safetensors.torch.save_file(open_clip.create_model("m2hf-tiny").state_dict(), path)
        return path

    return make


def prepare(root: Path, weights: Path, weights_may_lack: bool = False) -> Job:
    """A job of one clip whose CLIP is the file `weights`."""
    if not (root / "manifest").exists():
        (root / "videos").mkdir()
        media.good(root / "videos" / "a.mp4", seconds=1)
        row = Row(id="a", path="a.mp4", split="train", captions=("a tone",))
        Manifest(Card(name="one", protocol="one_caption"), (row,)).save(root / "manifest")
    section = {"encoder": {"model": "m2hf-tiny", "pretrained": str(weights)}, "device": "cpu"}
    places = (root / "manifest", root / "videos", root / "store")
    return Job.prepare(*places, section, ("clip",), weights_may_lack)


def run(job: Job) -> None:
    for _ in extraction.extract(job, SerialExecutor(), extraction.plan(job)):
        pass


def test_weights_that_change_after_a_job_began_stop_it(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    weights = Path(shutil.copy(checkpoint(1), tmp_path / "w.safetensors"))
    job = prepare(tmp_path, weights)
    shutil.copy(checkpoint(2), weights)
    with pytest.raises(ResourceError, match="clip: its weights were changed since the job began"):
        run(job)
    assert not list(tmp_path.glob("store/**/*.h5"))


def test_a_process_that_ran_a_job_does_the_next_one_with_new_weights(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    weights = Path(shutil.copy(checkpoint(1), tmp_path / "w.safetensors"))
    rows = []
    for seed in (1, 2):
        shutil.copy(checkpoint(seed), weights)
        job = prepare(tmp_path, weights)
        run(job)
        shard = Shard.open(job.shard("clip", 0))
        assert shard.header.weights == job.extractor("clip").weights()
        assert shard.header.fingerprint == job.fingerprints["clip"]
        rows.append(shard.item(0).features.values.tobytes())
    assert rows[0] != rows[1]


def test_a_worker_with_other_weights_refuses(checkpoint: Checkpoint, tmp_path: Path) -> None:
    job = prepare(tmp_path, checkpoint(1))
    elsewhere = replace(job.spec, fingerprints=(("clip", "0" * 64),))
    with pytest.raises(MismatchError, match="clip: this process has other weights or another con"):
        Job.open(elsewhere)


def test_a_process_without_a_folder_of_weights_uses_that_of_the_job(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers = tmp_path / "drivers"
    drivers.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, str(drivers))
    spec = prepare(tmp_path, checkpoint(1)).spec
    assert spec.weights == str(drivers)
    monkeypatch.delenv(VARIABLE)
    assert WeightsFolder.default().root == tmp_path / ".cache" / "m2hf" / "weights"
    Job.open(spec)
    assert WeightsFolder.default().root == drivers
    WeightsFolder(tmp_path / "none").adopt()


def test_what_is_stored_is_counted_without_the_weights(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    weights = Path(shutil.copy(checkpoint(1), tmp_path / "w.safetensors"))
    whole = prepare(tmp_path, weights, weights_may_lack=True)
    assert whole.lacking == {}
    weights.rename(tmp_path / "moved.safetensors")
    nothing = prepare(tmp_path, weights, weights_may_lack=True)
    assert "w.safetensors" in nothing.lacking["clip"]
    assert extraction.status(nothing).counts["clip"]["missing"] == 1
    assert nothing.stream("clip") != whole.stream("clip")
    (tmp_path / "moved.safetensors").rename(weights)
    run(prepare(tmp_path, weights))
    weights.unlink()
    job = prepare(tmp_path, weights, weights_may_lack=True)
    assert extraction.status(job).counts["clip"]["ok"] == 1
    assert job.stream("clip") == whole.stream("clip")
    with pytest.raises(ResourceError, match=r"w\.safetensors"):
        prepare(tmp_path, weights)
