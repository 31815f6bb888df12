"""Strict reading of HDF5 files that may hold anything, and strings whose bytes are reproducible.

What h5py raises for damaged files may be of any class. Here all of it is a ValueError of one line,
and so is a dataset whose data are not in the file: links, virtual and external datasets, data that
were never written, and shapes larger than the file.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from m2hf.atomic import raise_if_unreadable
from m2hf.errors import M2hfError, SchemaError, first_line
from m2hf.plain_data import json_value, shown
from m2hf.printable import printable
from m2hf.seal import Range, check_seal
from m2hf.shortage import resource_error

T = TypeVar("T")


def fixed_strings(strings: Sequence[str]) -> NDArray[np.bytes_]:
    """(S,) UTF-8 of one width: HDF5 keeps strings of varying length in a heap, whose bytes are not
    reproducible."""
    encoded = [text.encode() for text in strings]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")


def byte_range(dataset: h5py.Dataset) -> Range:
    """Where the bytes of a contiguous dataset lie in its file; without rows it has none."""
    size = dataset.size * dataset.dtype.itemsize
    return (dataset.id.get_offset(), size) if size else (0, 0)


class Hdf5Reader:
    """A file of one of m2hf's own formats, opened for reading.

    Every method raises ValueError where the file holds something else than expected. Datasets are
    contiguous and uncompressed, so that reading one takes no more memory than the file is long.
    """

    def __init__(self, path: Path, file: h5py.File, sealed: bool) -> None:
        self._path, self._file, self._sealed = path, file, sealed

    @classmethod
    @contextmanager
    def open(cls, path: Path, damaged: Callable[[str], M2hfError]) -> Iterator["Hdf5Reader"]:
        """Open `path` after its seal, where it has one, was checked: damage to structures of HDF5
        can crash its library.

        Raises `damaged` of the reason, also for a ValueError in the `with` block, UsageError for a
        file without read permission, and ResourceError where no file can be opened, or a share is
        gone.
        """
        try:
            sealed = check_seal(path)
            with open_hdf5(path) as file:
                yield cls(path, file, sealed)
        except (OSError, ValueError) as error:
            raise_if_unreadable(path, error)
            if isinstance(error, OSError) and (lacking := resource_error(error, str(path))):
                raise lacking from error
            raise damaged(first_line(error)) from error

    def version(self, schema: str, unsealed: Collection[int], sealed: int, again: str) -> int:
        """The schema version: one of the old ones that had no seal, or the present one.

        Raises SchemaError for another schema or version, ValueError where the present one has no
        seal.

        again: how to make a new file, for the message.
        """
        found, number = (self._attribute(name, "/") for name in ("schema", "version"))
        if not isinstance(found, str) or found != schema:
            raise SchemaError(
                f"{self._path}: not an {schema} file (schema {shown(found)}); {again}"
            )
        if type(number) is not int or number not in (*unsealed, sealed):
            reads = " and ".join(map(str, (*unsealed, sealed)))
            raise SchemaError(
                f"{self._path}: {schema} schema version {shown(number)}, this m2hf reads version "
                f"{reads}; install the m2hf that wrote it, or {again}"
            )
        if number == sealed and not self._sealed:
            raise ValueError("its seal is gone")
        return number

    def text(self, name: str) -> str:
        """A root attribute of text."""
        found = self._attribute(name, "/")
        if not isinstance(found, str):
            raise ValueError(f"attribute {name}: expected text, got {shown(found)}")
        try:
            found.encode()  # h5py reads bytes that are not UTF-8 as surrogates
        except UnicodeEncodeError as error:
            raise ValueError(f"attribute {name}: not UTF-8") from error
        return found

    def count(self, name: str) -> int:
        """A root attribute that is an integer from 0 to 2**31 - 1."""
        found = self._attribute(name, "/")
        if type(found) is not int or not 0 <= found < 1 << 31:
            expected = "an integer from 0 to 2**31 - 1"
            raise ValueError(f"attribute {name}: expected {expected}, got {shown(found)}")
        return found

    def number(self, name: str, dataset: str) -> float | None:
        """An attribute of a dataset that is a finite number; None where it has none."""
        found = self._attribute(name, dataset)
        if found is None:
            return None
        if not isinstance(found, int | float) or not math.isfinite(found):
            raise ValueError(f"{dataset}: attribute {name}: expected a number, got {shown(found)}")
        return float(found)

    def json(self, name: str, kind: type[T]) -> T:
        """The value in a root attribute of JSON; kind: its type, such as dict[str, list[str]]."""
        value = json_value(self.text(name), f"attribute {name}", ValueError)
        try:
            checked: T = _adapter(cast("Any", kind)).validate_python(value, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            keys = [f"attribute {name}", *(printable(str(key)) for key in first["loc"])]
            found = f"{first['msg']}, got {shown(first['input'])}"
            raise ValueError(f"{': '.join(keys)}: {found}") from error
        return checked

    def __contains__(self, name: str) -> bool:
        """Whether there is an attribute or a dataset of this name."""
        with any_error_as_value_error():
            return name in self._file.attrs or name in self._file

    def strings(self, name: str) -> tuple[str, ...]:
        """The strings of a dataset that `fixed_strings` made."""
        dataset = self._dataset(name, 1)
        if dataset.dtype.kind != "S":
            raise ValueError(f"{name}: type {dataset.dtype}, expected strings of fixed width")
        try:
            return tuple(text.decode() for text in self._read(dataset))
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: not UTF-8") from error

    def array(self, name: str, dtype: str, axes: int = 1) -> NDArray[Any]:
        """A dataset of this type and number of axes, in memory."""
        return self._read(self._typed(name, (dtype,), axes))

    def mapped(self, name: str, dtypes: Collection[str], axes: int) -> NDArray[Any]:
        """A dataset of one of these types, mapped: it stays readable after the file is closed."""
        dataset = self._typed(name, dtypes, axes)
        if not dataset.size:  # HDF5 allocates no space for a dataset without rows
            return np.zeros(dataset.shape, dataset.dtype)
        offset, _ = byte_range(dataset)
        return np.memmap(self._path, dataset.dtype, mode="r", offset=offset, shape=dataset.shape)

    def _attribute(self, name: str, owner: str) -> Any:
        """The value, a number as Python's; None where there is no attribute of this name."""
        with any_error_as_value_error():
            found = self._file[owner].attrs.get(name)
        return found.item() if isinstance(found, np.generic) else found

    def _read(self, dataset: h5py.Dataset) -> NDArray[Any]:
        with any_error_as_value_error():
            found: NDArray[Any] = dataset[()]
        return found

    def _typed(self, name: str, dtypes: Collection[str], axes: int) -> h5py.Dataset:
        dataset = self._dataset(name, axes)
        if dataset.dtype.str not in dtypes:
            expected = " or ".join(dtypes)
            raise ValueError(f"{name}: type {dataset.dtype.str}, expected {expected}")
        return dataset

    def _dataset(self, name: str, axes: int) -> h5py.Dataset:
        group: Any = self._file
        for part in name.split("/"):
            if not isinstance(group, h5py.Group):
                raise ValueError(f"{name}: missing")
            group = own_object(group, part)
        dataset = stored_dataset(group)
        if dataset.ndim != axes:
            raise ValueError(f"{name}: shape {dataset.shape}, expected {axes} axes")
        if dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
            raise ValueError(f"{name}: not contiguous, so it can't be mapped")
        return dataset


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once for each type, since that takes longer than to use it."""
    return TypeAdapter(kind)


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open `path` for reading; raises ValueError where it is no HDF5 file."""
    with any_error_as_value_error():
        file = h5py.File(path, "r")
    with file:
        yield file


def keys(group: h5py.Group) -> list[str]:
    """The names in a group, sorted."""
    with any_error_as_value_error():
        return sorted(group)


def own_object(group: h5py.Group, key: str) -> h5py.Group | h5py.Dataset:
    """The object `key` of a group; raises ValueError for a link, and where there is none."""
    with any_error_as_value_error():
        link = group.get(key, getlink=True)
        found = group[key] if isinstance(link, h5py.HardLink) else None
    if link is None:
        raise ValueError(f"{key}: missing")
    if not isinstance(found, h5py.Group | h5py.Dataset):
        raise ValueError(f"{key}: a link; store the array itself in the file")
    return found


def stored_dataset(found: object) -> h5py.Dataset:
    """`found` itself; raises ValueError unless it is a dataset whose data are all in its file."""
    if not isinstance(found, h5py.Dataset):
        raise ValueError("a group, expected a dataset")
    with any_error_as_value_error():
        shape, size, chunks = found.shape, found.dtype.itemsize, found.chunks
        elsewhere = found.is_virtual or found.external
        contiguous = found.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        length = Path(found.file.filename).stat().st_size
        written = found.id.get_storage_size() > 0
        chunks_written = found.id.get_num_chunks() if chunks else 0
    name = found.name.removeprefix("/")
    if elsewhere:
        raise ValueError(f"{name}: its values are in another file; store the array itself")
    if shape is None:
        raise ValueError(f"{name}: without shape, expected an array")
    if not math.prod(shape):
        return found
    if chunks:
        parts = (math.ceil(side / chunk) for side, chunk in zip(shape, chunks, strict=True))
        written = chunks_written == math.prod(parts)
    if not written:
        raise ValueError(f"{name}: shape {shape}, but not all of its values were written")
    if contiguous and found.id.get_offset() + math.prod(shape) * size > length:
        raise ValueError(f"{name}: shape {shape}, but the file ends before its values")
    return found


def read_rows(dataset: h5py.Dataset, rows: slice = slice(None)) -> NDArray[Any]:
    """Rows of a `stored_dataset`; raises ValueError where they can't be read."""
    with any_error_as_value_error():
        read: NDArray[Any] = dataset[rows] if dataset.shape else np.asarray(dataset[()])
    return read


@contextmanager
def any_error_as_value_error() -> Iterator[None]:
    """What h5py raises inside, whatever its class, is a ValueError of one line."""
    try:
        yield
    except Exception as error:
        raise ValueError(first_line(error)) from error
