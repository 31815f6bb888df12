"""The benchmark of alignment in time: its metric, its wrong times, and a small run."""

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.timing import __main__ as benchmark
from benchmarks.timing.among_twins import families, recall_among_twins
from benchmarks.timing.times import PERMUTED, TRUE, ZERO, with_times

from m2hf.data_manifests.toybox.corpus import ToyboxCorpus
from m2hf.data_manifests.toybox.families import BLOCK, TWINS
from m2hf.features import Features
from m2hf.layout import StoreLayout
from m2hf.shard import Shard, ShardItem, write_shard
from m2hf.shard_header import ShardHeader


def test_only_twins_are_in_the_gallery_of_a_query() -> None:
    rows = ToyboxCorpus.draw(3 * BLOCK, kind="timing").manifest().rows
    ids = [row.id for row in rows[: 2 * TWINS]][::-1]
    family_V = families(rows, ids)
    assert list(family_V) == [1] * TWINS + [0] * TWINS
    truth = np.arange(2 * TWINS)
    other = np.where(family_V[:, None] == family_V, 0.0, 1.0)  # other families score higher
    assert recall_among_twins(other + np.eye(2 * TWINS), truth, family_V) == 100
    assert recall_among_twins(other, truth, family_V) == pytest.approx(25)
    confused = np.eye(2 * TWINS)[truth ^ 1]
    assert recall_among_twins(other + confused, truth, family_V) == 0


def stored(store: Path, name: str) -> dict[str, Features]:
    layout = StoreLayout.open(store)
    shards = [Shard.open(path) for path in layout.shards(layout.find_stream(name))]
    return {item.id: item.features for shard in shards for item in shard.items()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Streams clip and logmel of two videos, each value different."""
    layout = StoreLayout(tmp_path / "store", "few")
    layout.record(1)
    start_s = np.arange(4.0)
    for number, name in enumerate(("clip", "logmel")):
        header = ShardHeader("few", name, 1, f"{number}" * 64, 0, 1, "0" * 64, {}, {}, {})
        items = [
            ShardItem(
                video, Features(at + np.arange(8.0).reshape(4, 2), start_s, start_s + 1), "0" * 64
            )
            for at, video in ((0, "a"), (100, "b"))
        ]
        write_shard(layout.shard(name, f"{number}" * 64, 0, 1), header, items, "float32", 2)
    return tmp_path / "store"


def test_wrong_times_are_wrong_in_a_copy_alone(store: Path, tmp_path: Path) -> None:
    before = {name: stored(store, name) for name in ("clip", "logmel")}
    assert with_times(store, "few", TRUE, "clip", "logmel", tmp_path / "true") == store
    permuted = with_times(store, "few", PERMUTED, "clip", "logmel", tmp_path / "permuted")
    zero = with_times(store, "few", ZERO, "clip", "logmel", tmp_path / "zero")
    moved = []
    for video in ("a", "b"):
        for name in ("clip", "logmel"):
            true, still = before[name][video], stored(store, name)[video]
            np.testing.assert_array_equal(still.values, true.values)
            np.testing.assert_array_equal(still.start_s, true.start_s)
            at_zero = stored(zero, name)[video]
            np.testing.assert_array_equal(at_zero.values, true.values)
            assert not at_zero.start_s.any()
            assert not at_zero.end_s.any()
        frames, sound = (stored(permuted, name)[video] for name in ("clip", "logmel"))
        np.testing.assert_array_equal(frames.values, before["clip"][video].values)
        true = before["logmel"][video]
        np.testing.assert_array_equal(sound.start_s, true.start_s)
        np.testing.assert_array_equal(np.sort(sound.values, axis=0), true.values)
        moved.append((sound.values != true.values).any())
    assert any(moved)


@pytest.mark.slow
def test_a_small_run_makes_its_set_and_writes_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    small = ["--clips", str(3 * BLOCK), "--workers", "0", "--seeds", "1", "--heads", "concat"]
    small += ["--times", "true", "zero", "--set", "fuse.train.epochs=1"]
    assert benchmark.main([*small, "--json", str(out)]) == 0
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert list(rows) == ["concat, times true", "concat, times zero", "visual"]
    assert all(len(recalls) == 1 for recalls in rows.values())
    assert all(0 <= recall <= 100 for recalls in rows.values() for recall in recalls)
    assert rows["concat, times true"] == rows["concat, times zero"]  # it reads no times
    printed = capsys.readouterr().out
    assert all(f"| {name} | " in printed for name in rows)
