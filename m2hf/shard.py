"""Shard schema v1: the features of one extractor for one bucket of ids, in one HDF5 file.

Rows are ragged: item i owns rows offset[i] .. offset[i+1] of `values`, which is contiguous and
uncompressed so that a reader maps it into memory. No clock, host or path is inside, so the same
input gives the same bytes in every process and on every host.

    id, status, reason          (S,)    UTF-8, fixed width
    media_sha256, digest        (S,)    hex; of the item's source, and of the item as stored
    offset                      (S+1,)  int64
    values                      (R, D)  float16 or float32
    start_s, end_s              (R,)    float64 seconds
    text, text_offset           bytes, (R+1,)    only for extractors of strings
    confidence                  (R,)    float32  only with text
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import FloatArray, IntArray
from m2hf.atomic import atomic_write
from m2hf.errors import ShardError
from m2hf.features import Features, Status
from m2hf.hdf5 import check_schema, fixed_strings, map_dataset, read_strings
from m2hf.keys import canonical_json

SCHEMA = "m2hf.shard"
VERSION = 1


@dataclass(frozen=True)
class ShardHeader:
    """Metadata of a shard: its root attributes.

    config: the canonical declared config that the fingerprint was made of; weights: name ->
    sha256; environment: library -> version; columns: names of the D values, if they have names;
    flags: remarks that every table made from the shard must repeat, such as "untrained".
    """

    dataset: str
    extractor: str
    revision: int
    fingerprint: str
    bucket: int
    buckets: int
    manifest: str
    config: Mapping[str, Any]
    weights: Mapping[str, str]
    environment: Mapping[str, str]
    columns: Sequence[str] = ()
    flags: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class ShardItem:
    """One item: its id, its features, and the sha256 of the file or text they were made from."""

    id: str
    features: Features
    media_sha256: str

    def digest(self, dtype: np.dtype[Any]) -> str:
        """sha256 over all stored data of this item, at the stored precision."""
        f = self.features
        texts = [] if f.texts is None else list(f.texts)
        head = [self.id, f.status.value, f.reason, self.media_sha256, list(f.values.shape), texts]
        sha = hashlib.sha256(canonical_json(head).encode())
        sha.update(np.ascontiguousarray(f.values, dtype=dtype).tobytes())
        for column, kind in ((f.start_s, "<f8"), (f.end_s, "<f8"), (f.confidence, "<f4")):
            if column is not None:
                sha.update(np.ascontiguousarray(column, dtype=kind).tobytes())
        return sha.hexdigest()


def write_shard(
    path: Path, header: ShardHeader, items: Sequence[ShardItem], dtype: str, width: int
) -> None:
    """Write `items` in id order, verify the digests of the written file, and rename it to `path`.

    dtype: "float16" or "float32" of the values; width: D, also where no item has a row.
    Raises ValueError for an id twice or another width, ResourceError for a full disk.
    """
    items = sorted(items, key=lambda item: item.id)
    if len({item.id for item in items}) != len(items):
        raise ValueError(f"{path}: an id occurs twice")
    for item in items:
        if item.features.values.shape[1] != width:
            raise ValueError(f"{item.id}: values have width {item.features.values.shape[1]}")
    kind = np.dtype(dtype).newbyteorder("<")
    rows = [item.features for item in items]
    with (
        atomic_write(path, verify=lambda p: Shard.open(p).verify()) as temporary,
        h5py.File(temporary, "w") as file,
    ):
        file.attrs["schema"] = SCHEMA
        file.attrs["version"] = VERSION
        for entry in fields(ShardHeader):
            value = getattr(header, entry.name)
            if not isinstance(value, str | int):
                value = canonical_json(dict(value) if isinstance(value, Mapping) else list(value))
            file.attrs[entry.name] = value
        file["id"] = fixed_strings([item.id for item in items])
        file["status"] = fixed_strings([f.status.value for f in rows])
        file["reason"] = fixed_strings([f.reason for f in rows])
        file["media_sha256"] = fixed_strings([item.media_sha256 for item in items])
        file["digest"] = fixed_strings([item.digest(kind) for item in items])
        file["offset"] = np.cumsum([0, *(len(f.values) for f in rows)], dtype="<i8")
        file["values"] = _joined([f.values for f in rows], kind, width)
        file["start_s"] = _joined([f.start_s for f in rows], np.dtype("<f8"))
        file["end_s"] = _joined([f.end_s for f in rows], np.dtype("<f8"))
        if any(f.texts is not None for f in rows):
            texts = [text.encode() for f in rows for text in f.texts or ()]
            file["text"] = np.frombuffer(b"".join(texts), dtype=np.uint8)
            file["text_offset"] = np.cumsum([0, *map(len, texts)], dtype="<i8")
            confidences = [f.confidence for f in rows if f.confidence is not None]
            file["confidence"] = _joined(confidences, np.dtype("<f4"))


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard opened for reading; `values` (R, D) and the bytes of `text` are memory-mapped, and
    no HDF5 handle stays open."""

    path: Path
    header: ShardHeader
    ids: tuple[str, ...]
    status: tuple[Status, ...]
    reasons: tuple[str, ...]
    media_sha256: tuple[str, ...]
    digests: tuple[str, ...]
    offset: IntArray
    values: FloatArray
    start_s: FloatArray
    end_s: FloatArray
    text: NDArray[np.uint8] | None
    text_offset: IntArray | None
    confidence: FloatArray | None

    @classmethod
    def open(cls, path: Path) -> "Shard":
        """Read everything but values and text, which are mapped.

        Raises ShardError for a file that is not HDF5, not a shard, or whose parts don't fit
        together, SchemaError for another version. Cheap: it checks no digests (see `verify`).
        """
        try:
            with h5py.File(path, "r") as file:
                header = _read_header(path, file)
                values = map_dataset(path, file["values"])
                has_text = "text" in file
                shard = cls(
                    path=path,
                    header=header,
                    ids=read_strings(file["id"]),
                    status=tuple(Status(s) for s in read_strings(file["status"])),
                    reasons=read_strings(file["reason"]),
                    media_sha256=read_strings(file["media_sha256"]),
                    digests=read_strings(file["digest"]),
                    offset=file["offset"][:],
                    values=values,
                    start_s=file["start_s"][:],
                    end_s=file["end_s"][:],
                    text=map_dataset(path, file["text"]) if has_text else None,
                    text_offset=file["text_offset"][:] if has_text else None,
                    confidence=file["confidence"][:] if has_text else None,
                )
        except (OSError, KeyError, ValueError) as error:
            raise ShardError(
                f"{path}: damaged shard ({error}); delete it and extract again"
            ) from error
        shard._check_shape()
        return shard

    def __len__(self) -> int:
        return len(self.ids)

    def item(self, i: int) -> ShardItem:
        """Item `i` as passed to `write_shard`, at the stored precision."""
        rows = slice(int(self.offset[i]), int(self.offset[i + 1]))
        texts = None
        if self.text is not None and self.text_offset is not None:
            ends = self.text_offset[rows.start : rows.stop + 1]
            texts = tuple(self.text[a:b].tobytes().decode() for a, b in pairwise(ends))
        features = Features(
            values=self.values[rows],
            start_s=self.start_s[rows],
            end_s=self.end_s[rows],
            texts=texts,
            confidence=None if self.confidence is None else self.confidence[rows],
            reason=self.reasons[i],
        )
        return ShardItem(self.ids[i], features, self.media_sha256[i])

    def intact_item(self, i: int) -> ShardItem:
        """Item `i` with its digest verified; raises ShardError where it differs."""
        try:
            item = self.item(i)
            intact = item.digest(self.values.dtype) == self.digests[i]
        except ValueError:  # NaN, decreasing times, invalid UTF-8
            intact = False
        if not intact:
            raise ShardError(
                f"{self.path}: item {self.ids[i]!r} doesn't match its digest; "
                "delete the file and extract again"
            )
        return item

    def items(self) -> Iterator[ShardItem]:
        return (self.item(i) for i in range(len(self)))

    def verify(self) -> None:
        """Recompute every digest; raises ShardError naming the first item that differs."""
        for i in range(len(self)):
            self.intact_item(i)

    def _check_shape(self) -> None:
        items, rows = len(self.ids), len(self.values)
        per_item = (self.status, self.reasons, self.media_sha256, self.digests)
        per_row = (self.start_s, self.end_s)
        sound = (
            all(len(column) == items for column in per_item)
            and all(len(column) == rows for column in per_row)
            and len(self.offset) == items + 1
            and self.offset[0] == 0
            and self.offset[-1] == rows
            and bool((np.diff(self.offset) >= 0).all())
            and (self.text_offset is None or len(self.text_offset) == rows + 1)
        )
        if not sound:
            raise ShardError(f"{self.path}: damaged shard (sizes differ); delete it and extract")


def _read_header(path: Path, file: h5py.File) -> ShardHeader:
    check_schema(path, file, SCHEMA, VERSION, "extract again into another --store")
    plain: dict[str, Any] = {}
    for entry in fields(ShardHeader):
        value = file.attrs[entry.name]
        if entry.type in (str, "str"):
            plain[entry.name] = str(value)
        elif entry.type in (int, "int"):
            plain[entry.name] = int(value)
        else:
            plain[entry.name] = json.loads(value)
    return ShardHeader(**plain)


def _joined(
    parts: Sequence[FloatArray], dtype: np.dtype[Any], width: int | None = None
) -> FloatArray:
    shape = (0,) if width is None else (0, width)
    return np.concatenate([np.zeros(shape, dtype), *parts], dtype=dtype, casting="same_kind")
