"""Matrices beyond their memory are in a file that nobody has to remove."""

import errno
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2hf.errors import ResourceError
from m2hf.fuse.evaluation import scratch


def in_a_file(array: Any) -> bool:
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return not isinstance(array, np.ndarray)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "_WRITTEN", 100)
    return tmp_path


@pytest.mark.parametrize("most", [0, 4 * 24 - 1, 4 * 24])
def test_matrices_hold_what_is_written_in_memory_or_in_a_file(folder: Path, most: int) -> None:
    made = scratch.matrices(2, 3, 4, most)
    assert in_a_file(made) == (most < 4 * 24)
    made[1, :2, 1:] = 7
    assert made.shape == (2, 3, 4)
    assert made[1].sum() == 42
    assert not [*folder.iterdir()]


def test_no_room_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = tempfile.TemporaryFile

    def full(**given: Any) -> Any:
        file = really(**given)

        class Full:
            def __enter__(self) -> "Full":
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, data: bytes) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

        return Full()

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(ResourceError, match=r"can't write \(No space left on device\)"):
        scratch.matrices(1, 9, 9, 0)
