"""Seals: every byte is covered, or belongs to a range that is named."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from byte_flips import missed_flips
from checkout import DATA

from m2hf.seal import SIZE, check_seal, write_seal
from m2hf.shard import Shard

SEALED = DATA / "shard-v2.h5"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=SIZE) as file:
        file["apart"] = np.arange(10.0)
        file["covered"] = np.arange(10.0)
        span = file["apart"].id.get_offset(), 80
    assert not check_seal(path)
    write_seal(path, [span])
    return path


def test_a_sealed_file_is_hdf5_and_says_so_in_its_first_line(path: Path) -> None:
    assert check_seal(path)
    assert path.read_bytes().startswith(b"m2hf-seal %d " % path.stat().st_size)
    with h5py.File(path) as file:
        assert file["covered"][3] == 3.0


def test_only_the_ranges_apart_may_change(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["apart"][3] = 9.0
    assert check_seal(path)
    with h5py.File(path, "r+") as file:
        file["covered"][3] = 9.0
    with pytest.raises(ValueError, match="its bytes differ"):
        check_seal(path)


@pytest.mark.parametrize("change", [b"", b"more", None])
def test_a_file_that_is_cut_short_or_longer_is_refused(path: Path, change: bytes | None) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-8] if change is None else data + change)
    if change == b"":
        assert check_seal(path)
        return
    with pytest.raises(ValueError, match="its bytes differ"):
        check_seal(path)


def test_no_flipped_byte_of_a_shard_is_believed(tmp_path: Path) -> None:
    def verify(path: Path) -> None:
        Shard.open(path).verify()

    verify(SEALED)
    assert missed_flips(SEALED, verify, 500, 0, tmp_path / "a.h5") == []


def test_a_flip_that_is_missed_is_reported(tmp_path: Path) -> None:
    assert len(missed_flips(SEALED, Path.read_bytes, 5, 0, tmp_path / "a.h5")) == 5
