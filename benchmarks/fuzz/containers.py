"""Damage to files of arrays that keeps them readable: .npy, .npz, HDF5 and safetensors."""

import io
import json
import tempfile
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from benchmarks.fuzz import damage

_SHAPES = ((0,), (1,), (3, 0), (0, 3), (2, 3, 4), (), (1 << 40, 4), (5,))
_TYPES = ("f2", "f4", "f8", ">f4", "i1", "u8", "c8", "?", "S3", "U3", "O", "M8[s]")


def of_npy(random: Random, data: bytes) -> bytes:
    """Another header, another array, or changed bytes."""
    match random.choice(("header", "array", "bytes")):
        case "header":
            return _npy_of_another_header(random, data)
        case "array":
            return npy(_array(random, np.load(io.BytesIO(data), allow_pickle=False)))
        case _:
            return damage.of_bytes(random, data)


def of_npz(random: Random, data: bytes) -> bytes:
    """A member changed, gone, renamed or new, or changed bytes."""
    if random.random() < 0.4:
        return damage.of_bytes(random, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(sorted(members))
    match random.choice(("inner", "inner", "gone", "renamed", "new")):
        case "inner":
            members[name] = of_npy(random, members[name])
        case "gone":
            del members[name]
        case "renamed":
            members[random.choice(("x.npy", "values", "../a.npy", ""))] = members.pop(name)
        case _:
            members["more.npy"] = members[name]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member, content in members.items():
            archive.writestr(member or "_", content)
    return packed.getvalue()


def of_hdf5(random: Random, data: bytes) -> bytes:
    """An attribute or a dataset changed, gone or new, a link, or changed bytes."""
    if random.random() < 0.4:
        return damage.of_bytes(random, data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        path.write_bytes(data)
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            if file.attrs and random.random() < 0.5:
                _change_attribute(random, file)
            elif names:
                _change_object(random, file, random.choice(names))
        return path.read_bytes()


def of_safetensors(random: Random, data: bytes) -> bytes:
    """A changed header, a changed value inside its metadata, or changed bytes."""
    length = int.from_bytes(data[:8], "little")
    header, tensors = data[8 : 8 + length], data[8 + length :]
    match random.choice(("header", "metadata", "metadata", "length", "bytes")):
        case "header":
            header = damage.of_json(random, header)
        case "metadata":
            about = json.loads(header)
            key = random.choice(sorted(about["__metadata__"]))
            inner = damage.of_json(random, about["__metadata__"][key].encode())
            about["__metadata__"][key] = inner.decode(errors="replace")
            header = json.dumps(about).encode()
        case "length":
            size = random.choice((0, 1, length + 1, 1 << 40, (1 << 64) - 1))
            return size.to_bytes(8, "little") + data[8:]
        case _:
            return damage.of_bytes(random, data)
    return len(header).to_bytes(8, "little") + header + tensors


def npy(array: NDArray[Any]) -> bytes:
    """The array as the content of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _npy_of_another_header(random: Random, data: bytes) -> bytes:
    shape: Any = random.choice((*_SHAPES, (-1, 4), "x", (10**30,), (True, 2)))
    fields = [
        f"'descr': {random.choice((*_TYPES, '<f4', '[(]', ''))!r}",
        f"'fortran_order': {random.choice((False, True, 0, None))}",
        f"'shape': {shape!r}",
    ]
    del fields[random.randrange(6) :]
    text = "{" + ", ".join(fields) + random.choice(("}", "}", "", "(" * 5000, "[" * 200))
    header = text.encode() + b"\n"
    return data[:8] + len(header).to_bytes(2, "little") + header + data[-64:]


def _array(random: Random, array: NDArray[Any]) -> NDArray[Any]:
    match random.choice(("value", "value", "type", "shape", "rows")):
        case "type":
            kind = random.choice([name for name in _TYPES if name not in ("O", "M8[s]")])
            return np.zeros(array.shape, kind)
        case "shape":
            shape = random.choice([shape for shape in _SHAPES if np.prod(shape) < 1e6])
            return np.zeros(shape, array.dtype)
        case "rows" if array.ndim:
            return array[: random.randrange(len(array) + 1)]
        case _ if array.size and array.dtype.kind in "fiu":
            array = array.copy()
            hostile = (0, -1, 1 << 62) if array.dtype.kind != "f" else (np.nan, np.inf, 1e300, -0.0)
            with np.errstate(all="ignore"):
                values = np.array(random.choice(hostile)).astype(array.dtype)
            array.flat[random.randrange(array.size)] = values
    return array


def _change_attribute(random: Random, file: h5py.File) -> None:
    name = random.choice(sorted(file.attrs))
    value = file.attrs[name]
    match random.choice(("gone", "json", "kind", "kind")):
        case "gone":
            del file.attrs[name]
        case "json" if isinstance(value, str):
            changed = damage.of_json(random, json.dumps(value).encode())
            file.attrs[name] = changed.decode(errors="replace").replace("\0", "")[:60_000]
        case _:
            kinds: tuple[Any, ...] = (-1, 1 << 62, 1.5, "x", "", "{", "[]", b"\xff", [1, 2], True)
            file.attrs[name] = random.choice(kinds)


def _change_object(random: Random, file: h5py.File, name: str) -> None:
    found = file[name]
    match random.choice(("gone", "array", "array", "link", "group", "external", "virtual")):
        case "gone":
            del file[name]
        case "array" if isinstance(found, h5py.Dataset) and found.dtype.kind in "fiu":
            changed = _array(random, np.asarray(found[()]))
            changed = changed.astype("S") if changed.dtype.kind == "U" else changed
            del file[name]
            file[name] = changed
        case "link":
            del file[name]
            file[name] = random.choice(
                (h5py.SoftLink("/nowhere"), h5py.SoftLink("/"), h5py.ExternalLink("/x.h5", "/a"))
            )
        case "group":
            del file[name]
            file.create_group(name)
        case "external":
            del file[name]
            file.create_dataset(name, (4,), "f4", external=[("/etc/hostname", 0, 16)])
        case "virtual":
            del file[name]
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource("/x.h5", "a", (4,))
            file.create_virtual_dataset(name, layout)
