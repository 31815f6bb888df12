"""Rows of a manifest in little memory: the JSON of all rows, one after the other.

A row as an object takes more than a KiB, so that ten million would not fit in the memory of a
usual machine. Packed, it takes its JSON and 16 bytes, and is parsed whenever it is asked for.
"""

import io
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Self, overload

import numpy as np

from m2hf.array_types import IntArray
from m2hf.keys import bucket_of
from m2hf.row import Row

_AFTER_ID = b',"path":'  # in JSON no string has these bytes, since a quote in it is escaped
_SORTED_BYTES = 24  # of an id; the few that begin alike are sorted by the rest


class PackedRows(Sequence[Row]):
    """A sequence of rows; those of a part of it share its memory."""

    def __init__(self, data: bytes, starts_N: IntArray, ends_N: IntArray) -> None:
        """Row n is the JSON in data[starts_N[n] : ends_N[n]]."""
        self._data, self._starts_N, self._ends_N = data, starts_N, ends_N

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Self:
        if isinstance(rows, cls):
            return rows
        packed, ends = io.BytesIO(), array("q")
        for row in rows:
            packed.write(row.model_dump_json().encode())
            ends.append(packed.tell())
        ends_N = np.array(ends, dtype=np.int64)
        return cls(packed.getvalue(), np.concatenate([[0], ends_N[:-1]])[: len(ends_N)], ends_N)

    def __len__(self) -> int:
        return len(self._ends_N)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> "Row | Self":
        if isinstance(index, slice):
            return type(self)(self._data, self._starts_N[index], self._ends_N[index])
        return Row.model_validate_json(self._json(index))

    def __iter__(self) -> Iterator[Row]:
        return (self[n] for n in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Equal rows in the same order."""
        if not isinstance(other, PackedRows):
            return NotImplemented
        return len(self) == len(other) and all(
            self._json(n) == other._json(n) for n in range(len(self))
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PackedRows({list(self)!r})"

    def chosen(self, index_N: IntArray) -> Self:
        """The rows with these indices."""
        return type(self)(self._data, self._starts_N[index_N], self._ends_N[index_N])

    def where(self, holds: Callable[[Row], bool]) -> Self:
        """The rows of which something holds."""
        return self.chosen(np.flatnonzero(np.fromiter(map(holds, self), np.bool_, len(self))))

    def ids(self) -> Iterator[str]:
        """The id of every row, without parsing the rest of it."""
        for n in range(len(self)):
            item: str = json.loads(self._id(n))
            yield item

    def repeated_ids(self) -> list[str]:
        """Ids that occur more than once, in the order of their first rows."""
        order = map(int, self._order_N)
        repeated = {a for a, b in pairwise(order) if self._id(a) == self._id(b)}
        return list(dict.fromkeys(self[n].id for n in sorted(repeated)))

    def sorted_json(self) -> Iterator[str]:
        """The JSON of every row, sorted."""
        return (self._json(n).decode() for n in self._order_N)

    @cached_property
    def _order_N(self) -> IntArray:
        """Indices by id, which is the order of the JSON, too: it begins with the id."""
        # First by their beginnings: an object for each id would take more memory than the rows.
        begin_N = np.fromiter(
            (self._id(n)[:_SORTED_BYTES] for n in range(len(self))), f"S{_SORTED_BYTES}", len(self)
        )
        order_N = np.argsort(begin_N, kind="stable")
        begin_N = begin_N[order_N]
        edges = np.flatnonzero(begin_N[1:] != begin_N[:-1]) + 1
        starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(self)]])
        for run in np.flatnonzero(ends - starts > 1):
            part = slice(starts[run], ends[run])
            order_N[part] = sorted(order_N[part].tolist(), key=self._id)
        return order_N

    def _json(self, n: int) -> bytes:
        return self._data[self._starts_N[n] : self._ends_N[n]]

    def _id(self, n: int) -> bytes:
        """The id as JSON, with its quotes."""
        start = int(self._starts_N[n]) + len(b'{"id":')
        return self._data[start : self._data.index(_AFTER_ID, start)]


class RowsByBucket:
    """Rows of each bucket, in id order."""

    def __init__(self, rows: PackedRows, buckets: int) -> None:
        bucket_N = np.fromiter((bucket_of(i, buckets) for i in rows.ids()), np.int64, len(rows))
        self._rows, self._order_N = rows, np.argsort(bucket_N, kind="stable")
        self._ends = np.cumsum(np.bincount(bucket_N, minlength=buckets)).tolist()
        self._last: tuple[int, list[Row]] = (-1, [])

    def __getitem__(self, bucket: int) -> list[Row]:
        """Those of the last bucket are kept: every extractor asks for them."""
        if self._last[0] != bucket:
            index_N = self._order_N[slice(*self._span(bucket))]
            rows = sorted(self._rows.chosen(index_N), key=lambda row: row.id)
            self._last = bucket, rows
        return self._last[1]

    def count(self, bucket: int) -> int:
        """How many rows the bucket has."""
        start, end = self._span(bucket)
        return end - start

    def _span(self, bucket: int) -> tuple[int, int]:
        return self._ends[bucket - 1] if bucket else 0, self._ends[bucket]
