"""Array files of any content: plain arrays, or one line."""

import tempfile
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
from benchmarks.fuzz import containers
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import refused_in_one_line

from m2hf import numpy_files
from m2hf.errors import UsageError


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "(" * 5000),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 4)}\n"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}\n"),
        header("{'descr': '[(', 'fortran_order': False, 'shape': (4,)}\n"),
    ],
)
def test_a_damaged_header_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    for read in (numpy_files.load, numpy_files.mapped):
        with pytest.raises(UsageError, match=r"^here: not a readable array file") as caught:
            read(path, "here")
        assert "\n" not in str(caught.value)


def test_a_member_that_is_no_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no array")
    with pytest.raises(UsageError, match=r"here: notes\.txt in it is no array; remove it"):
        numpy_files.load(path, "here")


def test_what_is_sound_is_read(tmp_path: Path) -> None:
    values = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", x=values)
    assert np.array_equal(numpy_files.load(tmp_path / "a.npy", "a"), values)
    assert np.array_equal(numpy_files.mapped(tmp_path / "a.npy", "a"), values)
    named = numpy_files.load(tmp_path / "a.npz", "a")
    assert isinstance(named, dict)
    assert np.array_equal(named["x"], values)
    with pytest.raises(UsageError, match=r"^here: No such file"):
        numpy_files.load(tmp_path / "none.npy", "here")


@given(st.integers(0, 1 << 30))
@settings(deadline=None, max_examples=60)
def test_any_damage_is_one_line_or_arrays(seed: int) -> None:
    random, values = Random(seed), np.ones((3, 4), "f4")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a"
        np.savez(path.with_suffix(".npz"), a=values, b=values)
        path.write_bytes(containers.of_npz(random, path.with_suffix(".npz").read_bytes()))
        with refused_in_one_line(UsageError, "here: "):
            numpy_files.load(path, "here")
        path.write_bytes(containers.of_npy(random, containers.npy(values)))
        with refused_in_one_line(UsageError, "here: "):
            numpy_files.mapped(path, "here")
