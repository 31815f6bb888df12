"""Shard schema v2: the features of one extractor for one bucket of ids, in one HDF5 file.

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

The header is in root attributes. The first line of the file is a seal (`m2hf/seal.py`) over every
byte but those of `values` and `text`, which is checked when a shard is opened; `values` and `text`
are covered by the items' digests, which `verify` checks. Version 1 is the same without a seal; it
stays readable.
"""

import hashlib
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import FloatArray, IntArray
from m2hf.atomic import atomic_write
from m2hf.damage import clear_damage
from m2hf.errors import ShardError
from m2hf.features import Features, Status
from m2hf.hdf5 import Hdf5Reader, byte_range, fixed_strings
from m2hf.keys import canonical_json
from m2hf.manifest import shortened
from m2hf.seal import SIZE, write_seal
from m2hf.shard_header import ShardHeader

SCHEMA = "m2hf.shard"
VERSION = 2
REPAIR = "extract it again with `m2hf retry --damaged`, or import it again"


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
    with atomic_write(path, verify=lambda p: Shard.open(p).verify()) as temporary:
        # In memory, since HDF5 crashes at the end of a process that had no room for a file's end.
        with h5py.File(
            temporary, "w", driver="core", backing_store=False, userblock_size=SIZE
        ) as file:
            file.attrs["schema"] = SCHEMA
            file.attrs["version"] = VERSION
            header.write(file)
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
            apart = [byte_range(file[name]) for name in ("values", "text") if name in file]
            file.flush()
            with temporary.open("wb") as stream:
                stream.write(bytes(SIZE))
                stream.write(file.id.get_file_image())
        write_seal(temporary, apart)
    clear_damage(path)


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard opened for reading; `values` (R, D) and the bytes of `text` are memory-mapped, and
    no HDF5 handle stays open."""

    path: Path
    version: int
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
        """Read everything but values and text, which are mapped, and check it by the seal.

        Raises ShardError for a file that is not HDF5, not a shard, changed, or whose parts don't
        fit together, SchemaError for another version. Cheap: it reads no values, and so checks no
        digests of items (see `verify`).
        """

        def damaged(reason: str) -> ShardError:
            return ShardError(f"{path}: damaged shard ({reason}); delete it and extract again")

        with Hdf5Reader.open(path, damaged) as file:
            version = file.version(SCHEMA, (1,), VERSION, "extract again into another --store")
            has_text = "text" in file
            shard = cls(
                path=path,
                version=version,
                header=ShardHeader.read(file),
                ids=file.strings("id"),
                status=tuple(Status(status) for status in file.strings("status")),
                reasons=file.strings("reason"),
                media_sha256=file.strings("media_sha256"),
                digests=file.strings("digest"),
                offset=file.array("offset", "<i8"),
                values=file.mapped("values", ("<f2", "<f4"), axes=2),
                start_s=file.array("start_s", "<f8"),
                end_s=file.array("end_s", "<f8"),
                text=file.mapped("text", ("|u1",), axes=1) if has_text else None,
                text_offset=file.array("text_offset", "<i8") if has_text else None,
                confidence=file.array("confidence", "<f4") if has_text else None,
            )
            shard._check_parts()
            return shard

    def __len__(self) -> int:
        return len(self.ids)

    def item(self, i: int) -> ShardItem:
        """Item `i` as passed to `write_shard`, at the stored precision, with its digest verified;
        raises ShardError where that differs."""
        try:
            item = self._stored_item(i)
            intact = item.digest(self.values.dtype) == self.digests[i]
        except ValueError:  # NaN, decreasing times, invalid UTF-8
            intact = False
        if not intact:
            raise ShardError(
                f"{self.path}: item {self.ids[i]!r} doesn't match its digest; {REPAIR}"
            )
        return item

    def items(self) -> Iterator[ShardItem]:
        """All items; raises as `item` at the first that differs."""
        return (self.item(i) for i in range(len(self)))

    def damaged(self) -> tuple[str, ...]:
        """The ids of all items that don't match their digests. Reads the whole shard."""
        found = []
        for i, item_id in enumerate(self.ids):
            try:
                self.item(i)
            except ShardError:
                found.append(item_id)
        return tuple(found)

    def verify(self) -> None:
        """Recompute every digest; raises ShardError naming the items that differ."""
        if damaged := self.damaged():
            raise ShardError(f"{damage_message(self.path, damaged)}; {REPAIR}")

    def strings(self, i: int) -> tuple[str, ...]:
        """The strings of item `i`, without a check of its digest; none where the shard has none.

        Raises ShardError for bytes that are not UTF-8.
        """
        try:
            return self._strings(i) or ()
        except UnicodeDecodeError as error:
            raise ShardError(
                f"{self.path}: item {self.ids[i]!r} holds a string that is not UTF-8; {REPAIR}"
            ) from error

    def _strings(self, i: int) -> tuple[str, ...] | None:
        if self.text is None or self.text_offset is None:
            return None
        ends = self.text_offset[int(self.offset[i]) : int(self.offset[i + 1]) + 1]
        return tuple(self.text[a:b].tobytes().decode() for a, b in pairwise(ends))

    def _stored_item(self, i: int) -> ShardItem:
        rows = slice(int(self.offset[i]), int(self.offset[i + 1]))
        features = Features(
            values=self.values[rows],
            start_s=self.start_s[rows],
            end_s=self.end_s[rows],
            texts=self._strings(i),
            confidence=None if self.confidence is None else self.confidence[rows],
            reason=self.reasons[i],
        )
        return ShardItem(self.ids[i], features, self.media_sha256[i])

    def _check_parts(self) -> None:
        """Raises ValueError where the parts contradict each other."""
        items, rows = len(self.ids), len(self.values)
        if list(self.ids) != sorted({*self.ids}):
            raise ValueError("id: not in order, or twice")
        for name in ("status", "reasons", "media_sha256", "digests"):
            _check_length(name, getattr(self, name), items)
        for name in ("start_s", "end_s"):
            _check_length(name, getattr(self, name), rows)
        _check_offset("offset", self.offset, items, rows)
        empty = np.diff(self.offset) == 0
        if not np.array_equal(empty, [status is Status.EMPTY for status in self.status]):
            raise ValueError("status: an item is ok without rows, or empty with rows")
        if self.text is not None and self.text_offset is not None:
            _check_offset("text_offset", self.text_offset, rows, len(self.text))
        if self.confidence is not None:
            _check_length("confidence", self.confidence, rows)


def damage_message(path: Path, damaged: Sequence[str]) -> str:
    """What to say of a shard with these damaged items."""
    named = shortened([repr(item) for item in damaged])
    count = f"{len(damaged)} damaged items, which don't match their digests"
    return f"{path}: {count}: {named}"


def _check_length(name: str, column: Sized, expected: int) -> None:
    if len(column) != expected:
        raise ValueError(f"{name}: {len(column)} entries, expected {expected}")


def _check_offset(name: str, offset: IntArray, parts: int, end: int) -> None:
    """Raises ValueError unless `offset` divides 0 .. end into so many parts."""
    _check_length(name, offset, parts + 1)
    if offset[0] != 0 or offset[-1] != end or (np.diff(offset) < 0).any():
        raise ValueError(f"{name}: doesn't rise from 0 to {end}")


def _joined(
    parts: Sequence[FloatArray], dtype: np.dtype[Any], width: int | None = None
) -> FloatArray:
    shape = (0,) if width is None else (0, width)
    return np.concatenate([np.zeros(shape, dtype), *parts], dtype=dtype, casting="same_kind")
