"""Strings and schema versions in HDF5 files, written so that equal data gives equal bytes."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from m2hf.errors import SchemaError


def fixed_strings(strings: Sequence[str]) -> NDArray[np.bytes_]:
    """(S,) UTF-8 of one width: HDF5's strings of varying length lie in a heap with free space."""
    encoded = [text.encode() for text in strings]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")


def read_strings(dataset: h5py.Dataset) -> tuple[str, ...]:
    """What `fixed_strings` made."""
    return tuple(text.decode() for text in dataset[:])


def check_schema(path: Path, file: h5py.File, schema: str, version: int, again: str) -> None:
    """Raises SchemaError unless the file is of this schema and version; `again` is what to do."""
    found, number = file.attrs.get("schema"), file.attrs.get("version")
    if found != schema:
        raise SchemaError(f"{path}: not an {schema} file (schema {found!r}); {again}")
    if number != version:
        raise SchemaError(
            f"{path}: {schema} schema version {number}, this m2hf reads version {version}; "
            f"install the m2hf that wrote it, or {again}"
        )
