"""Structure-aware damage to HDF5 files: attributes and datasets that are gone, of another type,
negative, huge, in another file, or without data."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from m2hf.seal import SIZE

Mutation = Callable[[h5py.File], None]

ATTRIBUTES: dict[str, Any] = {
    "a float": 1.5,
    "negative": -1,
    "huge": np.uint64(2**64 - 1),
    "an array": np.arange(3),
    "no value": h5py.Empty("f4"),
    "bytes": np.bytes_(b"\xff\xfe"),
    "no UTF-8": np.array(b"\xff", dtype=h5py.string_dtype("utf-8")),
    "words": "word",
    "a list": '[1, {"a": [null]}]',
    "an object": '{"a": {"b": []}}',
    "a number": "1e400",
    "deep": "[" * 20_000,
}


def unsealed(path: Path, version: int) -> Path:
    """Make the file at `path` one of an old version that had no seal."""
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = version
    with path.open("r+b") as stream:
        stream.write(bytes(SIZE))
    return path


def mutations(path: Path) -> Iterator[tuple[str, Mutation]]:
    """Every mutation of every attribute and dataset of the file at `path`, by name."""
    with h5py.File(path, "r") as file:
        attributes, datasets = sorted(file.attrs), list[str]()
        file.visititems(lambda name, o: datasets.append(name) if hasattr(o, "shape") else None)
    for name in attributes:
        yield f"{name}: deleted", partial(_delete_attribute, name)
        for what, value in ATTRIBUTES.items():
            yield f"{name}: {what}", partial(_set_attribute, name, value)
    for name in datasets:
        for what, change in _DATASETS.items():
            yield f"{name}: {what}", partial(_replace, name, change)


def _delete_attribute(name: str, file: h5py.File) -> None:
    del file.attrs[name]


def _set_attribute(name: str, value: Any, file: h5py.File) -> None:
    file.attrs[name] = value


def _replace(name: str, change: Callable[[h5py.File, str, Any], None], file: h5py.File) -> None:
    old = file[name][()]
    del file[name]
    change(file, name, old)


def _virtual(file: h5py.File, name: str, old: Any) -> None:
    file["elsewhere"] = old
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    if old.size:
        layout[...] = h5py.VirtualSource(file["elsewhere"])
    file.create_virtual_dataset(name, layout)


def _external(file: h5py.File, name: str, old: Any) -> None:
    place = [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(name, old.shape or (1,), old.dtype, external=place)


def _chunked(file: h5py.File, name: str, old: Any) -> None:
    file.create_dataset(name, data=old, chunks=tuple(max(1, side) for side in old.shape))


_DATASETS: dict[str, Callable[[h5py.File, str, Any], None]] = {
    "deleted": lambda file, name, old: None,
    "a group": lambda file, name, old: file.create_group(name),
    "a soft link": lambda file, name, old: file.__setitem__(name, h5py.SoftLink("/nowhere")),
    "a link to a file": lambda file, name, old: file.__setitem__(
        name, h5py.ExternalLink("/etc/hostname", "x")
    ),
    "virtual": _virtual,
    "external": _external,
    "chunked": _chunked,
    "never written": lambda file, name, old: file.create_dataset(
        name, (7, *old.shape[1:]), old.dtype
    ),
    "huge": lambda file, name, old: file.create_dataset(name, (2**40, *old.shape[1:]), old.dtype),
    "another rank": lambda file, name, old: file.__setitem__(name, old[None]),
    "a scalar": lambda file, name, old: file.__setitem__(name, 1.0),
    "no shape": lambda file, name, old: file.__setitem__(name, h5py.Empty("f4")),
    "integers": lambda file, name, old: file.__setitem__(name, np.zeros(old.shape, "<i4")),
    "variable strings": lambda file, name, old: file.__setitem__(name, ["a", "b"]),
    "one row fewer": lambda file, name, old: file.__setitem__(name, old[:-1]),
    "no UTF-8": lambda file, name, old: file.__setitem__(
        name, np.full(old.shape, b"\xff\xfe", "S2")
    ),
    "negative": lambda file, name, old: file.__setitem__(
        name, -np.ones_like(old) if old.dtype.kind in "if" else np.full(old.shape, b"-1")
    ),
}  # fmt: skip
