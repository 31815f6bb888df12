"""Upgrade: shards of older versions are written again if every item is intact, else left alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from checkout import DATA

from m2hf.errors import UsageError
from m2hf.layout import StoreLayout
from m2hf.shard import Shard
from m2hf.upgrade import upgrade_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two datasets: a shard of version 1, one of version 2, and one of 1 with a damaged item."""
    root = tmp_path / "store"
    for dataset in ("set", "other set"):
        layout = StoreLayout(root, dataset)
        layout.record(2)
        for bucket, version in enumerate((1, 2) if dataset == "set" else (1,)):
            path = layout.shard("clip", "f" * 64, bucket, 2)
            path.parent.mkdir(exist_ok=True)
            shutil.copy(DATA / f"shard-v{version}.h5", path)
    with h5py.File(path, "r+") as file:
        file["values"][0, 0] += 1
    return root


def test_old_shards_get_the_bytes_that_they_would_have_now(store: Path) -> None:
    *_, damaged = sorted(store.rglob("*.h5"), key=lambda path: "other" in str(path))
    before = damaged.read_bytes()
    results = list(upgrade_store(store))
    assert [again for _, again, _ in results] == [False, True, False]
    assert [path for path, _, why in results if why] == [damaged]
    assert "1 damaged items, which don't match their digests: 'id 1'" in results[0][2]
    assert damaged.read_bytes() == before
    for path, _, _ in results[1:]:
        assert path.read_bytes() == (DATA / "shard-v2.h5").read_bytes()
        assert Shard.open(path).version == 2
    assert not any(again for _, again, _ in upgrade_store(store))


def test_the_command_names_damage_and_ends_with_3(store: Path, m2hf: Callable[..., Any]) -> None:
    done = m2hf("upgrade", "--store", store, "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert (report["shards"], report["upgraded"]) == (3, 1)
    assert [entry["shard"] for entry in report["damaged"]] == [
        "other%20set/clip@ffffffff/0-of-2.h5"
    ]
    shutil.rmtree(store / "other%20set")
    done = m2hf("upgrade", "--store", store)
    assert (done.returncode, done.stdout) == (0, "2 shards, 0 upgraded, 0 shards damaged\n")


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store; give the folder"):
        list(upgrade_store(tmp_path))
