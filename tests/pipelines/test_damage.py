"""Damaged items: found by verify, told by status and extract, never copied, extracted again."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import media
import numpy as np
import pytest

from m2hf.cli.extract import verify as verify_command
from m2hf.errors import ResourceError
from m2hf.features import Features
from m2hf.manifest import Card, Manifest, Row
from m2hf.pipelines import extraction
from m2hf.pipelines.bucket import TaskResult
from m2hf.pipelines.executors import SerialExecutor
from m2hf.pipelines.job import Job
from m2hf.shard import Shard, ShardItem, write_shard
from m2hf.shard_header import ShardHeader

SETTINGS = {
    "encoder": {"model": "m2hf-tiny", "pretrained": ""},
    "device": "cpu",
    "buckets": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips, and a store with the flow of all but the last."""
    folder = tmp_path_factory.mktemp("damage")
    (folder / "videos").mkdir()
    rows = []
    for name, source in (("a", "testsrc"), ("b", "testsrc2"), ("c", "smptebars")):
        media.good(folder / "videos" / f"{name}.mp4", seconds=1, source=source)
        rows.append(Row(id=name, path=f"{name}.mp4", split="test", captions=(f"a {name}",)))
    card = Card(name="set", protocol="one_caption")
    Manifest(card, tuple(rows[:2])).save(folder / "two")
    Manifest(card, tuple(rows)).save(folder / "three")
    run(prepare(folder, "two"))
    return folder


@pytest.fixture
def fresh(root: Path, tmp_path: Path) -> Path:
    """A copy with a store of its own, of the same media."""
    for name in ("two", "three", "store"):
        shutil.copytree(root / name, tmp_path / name)
    (tmp_path / "videos").symlink_to(root / "videos")
    return tmp_path


def prepare(root: Path, manifest: str = "two", only: tuple[str, ...] = ("flow",)) -> Job:
    return Job.prepare(root / manifest, root / "videos", root / "store", SETTINGS, only)


def run(job: Job, retry_damaged: bool = False) -> list[TaskResult]:
    state = extraction.plan(job, retry_damaged)
    return list(extraction.extract(job, SerialExecutor(), state))


def damage(path: Path, item: int) -> bytes:
    """Change a value of an item; returns the bytes of the shard before."""
    before = path.read_bytes()
    with h5py.File(path, "r+") as file:
        file["values"][file["offset"][item], 0] += 1
    return before


def verify(job: Job) -> list[extraction.VerifiedShard]:
    shards = list(extraction.verify(job.layout, job.names))
    extraction.record(job.layout, shards)
    return shards


def test_verify_names_every_damaged_item_and_status_and_plan_know(fresh: Path) -> None:
    job = prepare(fresh)
    path = job.shard("flow", 0)
    damage(path, 1)
    assert extraction.status(job).damaged_items == []  # nothing was read again
    (verified,) = verify(job)
    assert (verified.intact, verified.damaged) == (1, ("b",))
    now = extraction.status(job)
    assert now.damaged_items == [{"id": "b", "extractor": "flow"}]
    assert now.counts["flow"] == {"ok": 1, "empty": 0, "failed": 1, "quarantined": 0, "missing": 0}
    assert now.damaged == [
        f"{path}: 1 damaged items, which don't match their digests: 'b'; extract it again with "
        "`m2hf retry --damaged`, or import it again"
    ]
    assert run(job) == []  # not without being asked to
    assert extraction.plan(job).damage_messages == now.damaged


def test_exactly_the_damaged_items_are_extracted_again(fresh: Path) -> None:
    job = prepare(fresh)
    before = damage(job.shard("flow", 0), 1)
    assert extraction.find_damage(job) == 1
    (result,) = run(job, retry_damaged=True)
    assert (result.written, result.damaged) == ({"flow": 1}, {"flow": ("b",)})
    assert job.shard("flow", 0).read_bytes() == before
    assert extraction.status(job).damaged == []
    assert extraction.find_damage(job) == 0
    assert run(job, retry_damaged=True) == []


def test_a_top_up_copies_intact_items_only(fresh: Path) -> None:
    whole = prepare(fresh, "three")
    run(whole)
    expected = whole.shard("flow", 0).read_bytes()
    shutil.rmtree(fresh / "store")
    run(prepare(fresh))
    damage(whole.shard("flow", 0), 0)
    (result,) = run(whole)
    assert (result.written, result.damaged) == ({"flow": 2}, {"flow": ("a",)})
    assert whole.shard("flow", 0).read_bytes() == expected


def test_a_damaged_item_whose_media_are_gone_is_not_believed(fresh: Path) -> None:
    videos = fresh / "videos"
    others = [path for path in videos.resolve().iterdir() if path.stem != "b"]
    videos.unlink()
    videos.mkdir()
    for path in others:
        shutil.copy(path, videos)
    job = prepare(fresh)
    damage(job.shard("flow", 0), 1)
    extraction.find_damage(job)
    run(job, retry_damaged=True)
    now = extraction.status(job)
    assert now.counts["flow"]["failed"] == 1
    assert [(f["id"], f["class"]) for f in now.failures] == [("b", "MediaError")]
    assert now.damaged_items == [{"id": "b", "extractor": "flow"}]


def test_a_record_that_is_out_of_date_costs_a_check_alone(fresh: Path) -> None:
    job = prepare(fresh)
    before = damage(job.shard("flow", 0), 1)
    extraction.find_damage(job)
    job.shard("flow", 0).write_bytes(before)  # restored from a copy
    (result,) = run(job, retry_damaged=True)
    assert (result.written, result.damaged) == ({"flow": 0}, {})
    assert extraction.status(job).damaged == []


def store_recognised(job: Job, name: str) -> Path:
    """A shard of an extractor of text with an item for each video."""
    values, times = np.zeros((1, 5), np.float32), np.zeros(1)
    items = [
        ShardItem(row.id, Features(values, times, times, ("words",), np.ones(1)), "s")
        for row in job.manifest.rows
    ]
    header = ShardHeader(
        "set", name, 1, job.fingerprints[name], 0, 1, job.manifest.digest, {}, {}, {}
    )
    path = job.shard(name, 0)
    write_shard(path, header, items, "float32", 5)
    return path


def test_derived_features_are_made_of_intact_items_only(fresh: Path, demo_weights: None) -> None:
    job = prepare(fresh, only=("text",))
    ocr, _ = (store_recognised(job, name) for name in ("ocr", "asr"))
    before = damage(ocr, 1)
    (result,) = run(job)
    assert (result.written, result.damaged) == ({"text": 1}, {"ocr": ("b",)})
    assert extraction.status(job).counts["text"]["missing"] == 1
    ocr.write_bytes(before)
    assert run(job)[0].written == {"text": 1}
    assert Shard.open(job.shard("text", 0)).ids == ("a", "b")


def test_a_store_that_cannot_be_written_is_verified_all_the_same(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "touch", refuse)
    verify_command(fresh / "two", fresh / "store")
    damage(prepare(fresh).shard("flow", 0), 1)
    with pytest.raises(ResourceError, match=r"damaged\.json: can't write \(Read-only"):
        verify_command(fresh / "two", fresh / "store")
    assert "1 damaged items" in capsys.readouterr().out


def test_from_the_command_line(fresh: Path, m2hf: Callable[..., Any]) -> None:
    job = prepare(fresh)
    before = damage(job.shard("flow", 0), 1)
    paths = ("--manifest", fresh / "two", "--store", fresh / "store")
    work = (*paths, "--media", fresh / "videos", "--only", "flow", "--set", "extract.buckets=1")
    place = str(job.shard("flow", 0).relative_to(fresh / "store"))
    checked = m2hf("verify", *paths, "--json")
    assert checked.returncode == 3
    assert json.loads(checked.stdout)["damaged_items"] == [
        {"id": "b", "stream": job.stream("flow"), "shard": place}
    ]
    said = m2hf("extract", *work)
    assert said.returncode == 3
    assert "1 damaged items" in said.stderr
    again = m2hf("retry", "--damaged", *work)
    assert again.returncode == 0, again.stderr
    assert "1 items will be extracted again" in again.stderr
    assert "damaged, so not copied but extracted again: flow: 'b'" in again.stderr
    assert job.shard("flow", 0).read_bytes() == before
    checked = m2hf("verify", *paths)
    assert (checked.returncode, checked.stdout) == (
        0,
        "1 shards, 2 items verified, 0 shards damaged\n",
    )
