"""Feature arrays computed by other tools, read by item, for `m2hf import`.

A video stream is a folder or one HDF5 file. A video is named by its id, or by the escaped id
(`m2hf.keys.safe_name`), which an id with a slash needs:

    DIR/<id>.npy             values (N, D), or (D,) for one row
    DIR/<id>.npz             values; start_s and end_s (N,) seconds, both or neither
    FILE.h5  /<id>           a dataset (N, D) or (D,), or a group of values, start_s, end_s

A video without an array is missing; one whose array has no rows is EMPTY. Nothing is unpickled,
and links in an HDF5 file to other files are refused.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import h5py
import numpy as np
from numpy.typing import NDArray

from m2hf import numpy_files
from m2hf.array_types import FloatArray
from m2hf.atomic import raise_if_unreadable
from m2hf.errors import ManifestError, UsageError
from m2hf.hdf5 import keys, open_hdf5, own_object, read_rows, stored_dataset
from m2hf.keys import canonical_json, safe_name

VALUES, START, END = "values", "start_s", "end_s"
SKIP = "leave out what the manifest lacks with --skip-unknown"


@dataclass(frozen=True, eq=False)
class ItemArrays:
    """The arrays of one item as stored: values (N, D) finite floats; start_s, end_s (N,) seconds,
    or None; text: of a caption, the text that was embedded, where the file has it."""

    values: FloatArray
    start_s: FloatArray | None = None
    end_s: FloatArray | None = None
    text: str | None = None

    def digest(self) -> str:
        """sha256 of types, shapes and bytes, independent of the file format."""
        columns = (self.values, self.start_s, self.end_s)
        little = [None if c is None else c.astype(c.dtype.newbyteorder("<")) for c in columns]
        head = [[None if c is None else [c.dtype.str, list(c.shape)] for c in little], self.text]
        sha = hashlib.sha256(canonical_json(head).encode())
        for column in little:
            if column is not None:
                sha.update(np.ascontiguousarray(column).tobytes())
        return sha.hexdigest()


class ArraySource(Protocol):
    """Items by id; `names` gives the location of each, for messages; unknown: how many arrays were
    skipped, since the manifest lacks their ids."""

    unknown: int

    @property
    def names(self) -> Mapping[str, str]:
        """id -> location of its array."""

    def read(self, item: str) -> ItemArrays:
        """The arrays of one item; raises UsageError where they can't be features."""


class ArrayFolder:
    """A folder with one .npy or .npz file for each video; other and hidden files are ignored."""

    def __init__(self, folder: Path, ids: Collection[str], skip_unknown: bool) -> None:
        """ids: what the manifest has; raises ManifestError for an array of another id, unless
        those are skipped."""
        self._folder = folder
        files = sorted(
            path.name
            for path in folder.iterdir()
            if path.suffix in (".npy", ".npz") and not path.name.startswith(".")
        )
        if not files:
            raise UsageError(f"{folder}: no .npy or .npz file in it; name each <video id>.npy")
        named = ((Path(file).stem, file) for file in files)
        self._files, self.unknown = match_names(str(folder), named, ids, skip_unknown)

    @property
    def names(self) -> Mapping[str, str]:
        return {item: str(self._folder / name) for item, name in self._files.items()}

    def read(self, item: str) -> ItemArrays:
        path = self._folder / self._files[item]
        stored = numpy_files.load(path, str(path))
        if not isinstance(stored, dict):
            return item_arrays(str(path), {VALUES: stored})
        return item_arrays(str(path), stored)


class ArrayFile:
    """One HDF5 file with a dataset or a group for each video."""

    def __init__(
        self, path: Path, file: h5py.File, ids: Collection[str], skip_unknown: bool
    ) -> None:
        """As of `ArrayFolder`."""
        self._path, self._file = path, file
        with refused(str(path)):
            named = [(key, key) for key in keys(file)]
        self._keys, self.unknown = match_names(str(path), named, ids, skip_unknown)

    @property
    def names(self) -> Mapping[str, str]:
        return {item: f"{self._path}: {key!r}" for item, key in self._keys.items()}

    def read(self, item: str) -> ItemArrays:
        where = self.names_of(item)
        with refused(where):
            found = own_object(self._file, self._keys[item])
            if isinstance(found, h5py.Dataset):
                parts = {VALUES: stored_dataset(found)}
            else:
                parts = {part: stored_dataset(own_object(found, part)) for part in keys(found)}
            stored = {part: read_rows(dataset) for part, dataset in parts.items()}
        return item_arrays(where, stored)

    def names_of(self, item: str) -> str:
        """Location of one item, for messages."""
        return f"{self._path}: {self._keys[item]!r}"


def open_videos(
    path: Path, ids: Collection[str], skip_unknown: bool
) -> AbstractContextManager[ArraySource]:
    """The video arrays at `path`, a folder or an HDF5 file.

    Raises UsageError for a path that is neither, ManifestError for an id outside `ids`, unless
    those are skipped.
    """
    if path.is_dir():
        return nullcontext(ArrayFolder(path, ids, skip_unknown))
    return _open_file(path, ids, skip_unknown)


@contextmanager
def _open_file(path: Path, ids: Collection[str], skip_unknown: bool) -> Iterator[ArraySource]:
    with open_array_file(path, "a folder of .npy or .npz files") as file:
        yield ArrayFile(path, file, ids, skip_unknown)


@contextmanager
def open_array_file(path: Path, otherwise: str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; otherwise: the alternative that an error message names."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder; expected {otherwise}, or one HDF5 file")
    with ExitStack() as opened:
        try:
            file = opened.enter_context(open_hdf5(path))
        except ValueError as error:
            raise_if_unreadable(path, error)
            raise UsageError(f"{path}: not an HDF5 file, and not {otherwise} ({error})") from error
        yield file


@contextmanager
def refused(where: str) -> Iterator[None]:
    """A ValueError inside is a UsageError with the location `where`."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def item_arrays(where: str, stored: Mapping[str, NDArray[Any]]) -> ItemArrays:
    """Check the named arrays of one video; raises UsageError, with the location `where`."""
    unknown = sorted(set(stored) - {VALUES, START, END})
    if VALUES not in stored or unknown:
        have = ", ".join(sorted(stored)) or "nothing"
        raise UsageError(f"{where}: has {have}; expected values, and start_s with end_s or neither")
    if (START in stored) != (END in stored):
        raise UsageError(f"{where}: start_s and end_s belong together; give both or neither")
    values = rows_of(where, stored[VALUES])
    start_s, end_s = (
        float_array(f"{where}: {name}", stored[name]) if name in stored else None
        for name in (START, END)
    )
    if start_s is not None and start_s.shape == (len(values),):
        earlier = np.flatnonzero(start_s[1:] < start_s[:-1])
        if len(earlier):
            row = int(earlier[0]) + 1
            raise UsageError(
                f"{where}: start_s: row {row} starts at {start_s[row]:g} s, before row {row - 1} "
                f"({start_s[row - 1]:g} s); sort the rows of all arrays by start_s"
            )
    return ItemArrays(values, start_s, end_s)


def rows_of(where: str, values: NDArray[Any]) -> FloatArray:
    """(N, D) finite floats, from (N, D) or (D,)."""
    values = float_array(where, values)
    if values.ndim == 1:
        values = values[None] if len(values) else values.reshape(0, 0)
    if values.ndim != 2:
        raise UsageError(f"{where}: shape {values.shape}; expected (N, D) rows, or (D,) for one")
    if len(values) and not values.shape[1]:
        raise UsageError(f"{where}: shape {values.shape}; its rows have no columns")
    with np.errstate(over="ignore"):
        finite_N = np.isfinite(values.astype(np.float32)).all(axis=1)
    if not finite_N.all():
        row = int(np.argmin(finite_N))
        raise UsageError(f"{where}: row {row} holds NaN, infinity or more than float32 can hold")
    return values


def float_array(where: str, array: NDArray[Any]) -> FloatArray:
    """The same array; raises UsageError for a type that shards can't store."""
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        raise UsageError(f"{where}: type {array.dtype}; expected float16, float32 or float64")
    return array


def match_names(
    where: str, named: Iterable[tuple[str, str]], ids: Collection[str], skip_unknown: bool
) -> tuple[dict[str, str], int]:
    """id -> location, for (name, location) pairs whose name is an id or an escaped id, and how
    many pairs were skipped, since their name is neither.

    Raises ManifestError for such a name unless they are skipped, and for two locations of one id.
    """
    found: dict[str, str] = {}
    unknown = []
    for name, location in named:
        item = name if name in ids else unquote(name)
        if item not in ids or (item != name and safe_name(item) != name):
            unknown.append(location)
        elif item in found:
            raise ManifestError(
                f"{where}: {found[item]} and {location} are both for id {item!r}; remove one"
            )
        else:
            found[item] = location
    if unknown and not skip_unknown:
        more = f" (and {len(unknown) - 1} others)" if len(unknown) > 1 else ""
        raise ManifestError(
            f"{where}: {unknown[0]} is for no id of the manifest{more}; "
            f"remove it, add its video to the manifest, or {SKIP}"
        )
    return found, len(unknown)
