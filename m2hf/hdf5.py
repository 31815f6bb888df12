"""Strings, mapped arrays and schema versions in HDF5 files; equal data gives equal bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from m2hf.errors import SchemaError


def fixed_strings(strings: Sequence[str]) -> NDArray[np.bytes_]:
    """(S,) UTF-8 of one width: HDF5 keeps strings of varying length in a heap, whose bytes are not
    reproducible."""
    encoded = [text.encode() for text in strings]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")


def read_strings(dataset: h5py.Dataset) -> tuple[str, ...]:
    """The strings of a dataset that `fixed_strings` made."""
    return tuple(text.decode() for text in dataset[:])


def map_dataset(path: Path, dataset: h5py.Dataset) -> NDArray[Any]:
    """The dataset mapped from `path`, which stays readable after the HDF5 file is closed; raises
    ValueError where it isn't contiguous, or lies beyond the end of the file."""
    if dataset.chunks is not None or dataset.compression is not None:
        raise ValueError(f"{dataset.name} is not contiguous")
    offset = dataset.id.get_offset()
    if offset is None:  # HDF5 allocates no space for a dataset without rows
        return np.zeros(dataset.shape, dataset.dtype)
    end = offset + dataset.size * dataset.dtype.itemsize
    if path.stat().st_size < end:
        raise ValueError(f"file is shorter than {dataset.name}")
    return np.memmap(path, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)


def check_schema(path: Path, file: h5py.File, schema: str, version: int, again: str) -> None:
    """Raises SchemaError unless the file has this schema and version; again: how to make a new one,
    for the message."""
    found, number = file.attrs.get("schema"), file.attrs.get("version")
    if found != schema:
        raise SchemaError(f"{path}: not an {schema} file (schema {found!r}); {again}")
    if number != version:
        raise SchemaError(
            f"{path}: {schema} schema version {number}, this m2hf reads version {version}; "
            f"install the m2hf that wrote it, or {again}"
        )
