"""Strict reading: whatever an HDF5 file holds is read as expected, or refused in one line."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkout import DATA
from hdf5_mutations import mutations
from mutations import refused_in_one_line

from m2hf.errors import M2hfError, UsageError
from m2hf.hdf5 import Hdf5Reader, open_hdf5, stored_dataset
from m2hf.shard import Shard

V1, V2 = DATA / "shard-v1.h5", DATA / "shard-v2.h5"


def read_all(path: Path) -> None:
    shard = Shard.open(path)
    assert len(list(shard.items())) == len(shard)


def test_mutations_of_a_shard_without_seal_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    accepted = []
    for name, mutate in mutations(V1):
        path = Path(shutil.copy(V1, tmp_path / "a.h5"))
        with h5py.File(path, "r+") as file:
            mutate(file)
        with refused_in_one_line(M2hfError, f"{path}: "):
            read_all(path)
            accepted.append(name)
    # Other text where text is expected: only a seal can tell it from what was written.
    texts = {"dataset", "extractor", "fingerprint", "manifest"}
    assert {name.partition(": ")[0] for name in accepted} == {*texts, "config"}


def test_every_mutation_of_a_sealed_shard_is_refused(tmp_path: Path) -> None:
    for _, mutate in mutations(V2):
        path = Path(shutil.copy(V2, tmp_path / "a.h5"))
        with h5py.File(path, "r+") as file:
            mutate(file)
        with pytest.raises(M2hfError, match=r"a\.h5: "):
            read_all(path)


@pytest.mark.parametrize("chunks", [None, (2, 2)])
def test_only_data_that_were_written_are_read(
    tmp_path: Path, chunks: tuple[int, int] | None
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        whole = file.create_dataset("whole", data=np.ones((4, 4)), chunks=chunks)
        none = file.create_dataset("none", (4, 4), "f8", chunks=chunks)
        file.flush()
        assert stored_dataset(whole) == whole
        with pytest.raises(ValueError, match=r"none: shape \(4, 4\), but not all of its values"):
            stored_dataset(none)
        if chunks:
            none[:2] = 1
            with pytest.raises(ValueError, match="not all of its values were written"):
                stored_dataset(none)


def test_values_beyond_the_end_of_the_file_are_not_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["values"] = np.ones(1000)
        end = file["values"].id.get_offset() + 8000
    with path.open("r+b") as stream:
        stream.truncate(end - 8)
    with pytest.raises(ValueError, match=r"truncated|ends before"), open_hdf5(path) as file:
        stored_dataset(file["values"])


def test_a_reader_names_what_it_expected(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["values"] = np.ones((2, 2), "<f8")
        file.attrs["flags"] = '{"a": [1]}'
    for read, message in (
        (lambda f: f.mapped("values", ("<f2", "<f4"), 2), "values: type <f8, expected <f2 or <f4"),
        (lambda f: f.array("values", "<f8"), r"values: shape \(2, 2\), expected 1 axes"),
        (lambda f: f.strings("more/ids"), "more: missing"),
        (lambda f: f.strings("values/ids"), "values/ids: missing"),
        (lambda f: f.json("flags", dict[str, list[str]]), "attribute flags: a: 0: .* got 1"),
        (lambda f: f.text("none"), "attribute none: expected text, got None"),
    ):
        with (
            pytest.raises(UsageError, match=f"^damaged: {message}"),
            Hdf5Reader.open(path, lambda why: UsageError(f"damaged: {why}")) as reader,
        ):
            read(reader)
