"""One extractor's features by id: ragged rows over memory-mapped shards, gathered into padded
batches.

numpy only. B items of a batch, N rows of the longest item, D width of a stream, I items of all
shards.
"""

import resource
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import BoolArray, FloatArray, IntArray
from m2hf.damage import read_damage
from m2hf.errors import ShardError, UsageError
from m2hf.features import Features
from m2hf.keys import SHORT, canonical_json, sha256_hex
from m2hf.layout import StoreLayout
from m2hf.shard import REPAIR, Shard, ShardItem, damage_message
from m2hf.shard_header import ShardHeader
from m2hf.streams import StreamName, extractor_of

_HALF_INFINITY = 0x7C00  # bits of float16 infinity; larger bit patterns are NaN
_SPARE_FILES = 256  # file descriptors left for everything that is not a mapped shard


class PaddedRows(NamedTuple):
    """A padded batch: values (B, N, D) as they are stored, float16 or float32, zero where mask
    (B, N) is False; time_s (B, N) centres of the rows' windows in seconds from the start of the
    clip."""

    values_BND: FloatArray
    mask_BN: BoolArray
    time_s_BN: NDArray[np.float32]


@dataclass(frozen=True)
class StreamInfo:
    """What artefacts record of a stream: its name in the store, full fingerprint, width D, and the
    flags that every table made from it repeats."""

    name: str
    fingerprint: str
    width: int
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{StreamName.of(extractor_of(self.name), self.fingerprint)} of width {self.width}"


class Stream:
    """All items of one extractor: the index in memory, the values mapped from disk."""

    def __init__(self, name: str, shards: Sequence[Shard]) -> None:
        """`shards` are all shards of the stream; raises ShardError where they contradict."""
        header = shards[0].header
        self.info = StreamInfo(
            name=name,
            fingerprint=header.fingerprint,
            width=shards[0].values.shape[1],
            flags=tuple(sorted({flag for shard in shards for flag in shard.header.flags})),
        )
        self._shards = shards
        for shard in shards:
            if shard.header.fingerprint != header.fingerprint:
                raise ShardError(
                    f"{shard.path}: fingerprint {shard.header.fingerprint[:SHORT]} among shards of "
                    f"{header.fingerprint[:SHORT]}; move it to the folder of its own stream"
                )
        self._items = _Items.of(shards)
        # Plain arrays over the maps: a batch is many small slices.
        self._values = [np.asarray(shard.values) for shard in shards]
        # Padded as stored: torch converts a batch faster than numpy, and half as much is copied.
        self._dtype = np.result_type(*(values.dtype for values in self._values))
        centres = [(s.start_s + s.end_s).astype(np.float32) / 2 for s in shards]
        self._centre_s = np.concatenate(centres)

    @classmethod
    def open(cls, layout: StoreLayout, name: str) -> Self:
        """Open the stream called `name`; raises UsageError where the store has none, ShardError
        for a damaged shard and for one with items that are recorded as damaged."""
        found = layout.find_stream(name)
        paths = list(layout.shards(found))
        if not paths:
            raise UsageError(f"{layout.folder / found}: no shards; extract this stream first")
        for path in paths:
            if damaged := read_damage(path):
                raise ShardError(f"{damage_message(path, damaged)}; {REPAIR}")
        _allow_open_files(2 * len(paths))  # for values, and for strings where the stream has some
        return cls(found, [Shard.open(path) for path in paths])

    @property
    def header(self) -> ShardHeader:
        """The header of its first shard: extractor, revision, config and weights of the stream."""
        return self._shards[0].header

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that values are stored with."""
        return self._dtype

    def lengths(self, ids: Sequence[str]) -> IntArray:
        """(B,) number of rows of each id; 0 where missing."""
        counts: IntArray = self._items.count[self._items.numbers(ids)]
        return counts

    def holds(self, ids: Sequence[str]) -> BoolArray:
        """(B,) whether each id has an entry, EMPTY or not."""
        return self._items.numbers(ids) >= 0

    def present(self, ids: Sequence[str]) -> BoolArray:
        """(B,) whether each id has rows."""
        return self.lengths(ids) > 0

    def gather(self, ids: Sequence[str], first: int | None = None) -> PaddedRows:
        """Rows of `ids`, padded to the longest of them (at least one row wide).

        first: at most this many rows of each item, such as 1 for a caption's sentence.
        Raises ShardError for an item with a value that is not finite, when it is first read.
        """
        number_B, items = self._items.numbers(ids), self._items
        count_B = items.count[number_B]
        if first is not None:
            count_B = np.minimum(count_B, first)
        n = int(count_B.max(initial=1))
        column_N = np.arange(n)
        mask_BN = column_N < count_B[:, None]
        time_s_BN = np.zeros((len(ids), n), dtype=np.float32)
        time_s_BN[mask_BN] = self._centre_s[(items.row[number_B, None] + column_N)[mask_BN]]
        values_BND = np.zeros((len(ids), n, self.info.width), dtype=self._dtype)
        where = (array.tolist() for array in (items.shard[number_B], items.start[number_B]))
        for rows, shard, start, count in zip(values_BND, *where, count_B.tolist(), strict=True):
            rows[:count] = self._values[shard][start : start + count]
        self._check_finite(ids, number_B, values_BND, first)
        return PaddedRows(values_BND, mask_BN, time_s_BN)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the D values where the extractor gives names."""
        return tuple(self._shards[0].header.columns)

    def item(self, item_id: str) -> ShardItem | None:
        """One item with its strings; None where the stream has no entry for it.

        Raises ShardError where it doesn't match its digest.
        """
        found = self._find(item_id)
        return None if found is None else found[0].item(found[1])

    @property
    def has_strings(self) -> bool:
        """Whether its rows have strings; True for a stream without rows."""
        return all(s.text is not None or not len(s.values) for s in self._shards)

    def strings(self, item_id: str) -> tuple[str, ...]:
        """The strings of an item's rows; none where it has no rows, or no entry.

        Raises ShardError for bytes that aren't UTF-8; the digest is not checked, as in `gather`.
        """
        found = self._find(item_id)
        return () if found is None else found[0].strings(found[1])

    def features(self, item_id: str) -> Features:
        """Features of an item that `holds` knows, with its strings and times; raises as `item`."""
        stored = self.item(item_id)
        assert stored is not None
        return stored.features

    def verify(self, ids: Iterable[str]) -> None:
        """Raises ShardError for an item that doesn't match its digest; reads all of `ids`."""
        for item_id in ids:
            self.item(item_id)

    def reason(self, item_id: str) -> str:
        """Why an entry is EMPTY, or a remark on one that isn't; "" where there is neither."""
        found = self._find(item_id)
        return "" if found is None else found[0].reasons[found[1]]

    def digest(self, ids: Iterable[str]) -> str:
        """sha256 over the known ids among `ids` and their digests, in id order."""
        pairs = []
        for item_id in sorted({*ids}):
            if (found := self._find(item_id)) is not None:
                pairs.append([item_id, found[0].digests[found[1]]])
        return sha256_hex(canonical_json(pairs).encode())

    def _find(self, item_id: str) -> tuple[Shard, int] | None:
        """The shard that holds an item, and its place there."""
        place = self._items.place(item_id)
        return None if place is None else (self._shards[place[0]], place[1])

    def _check_finite(
        self, ids: Sequence[str], number_B: IntArray, values_BND: FloatArray, first: int | None
    ) -> None:
        """Checked before a projection spreads a NaN over the whole batch; each item once."""
        new_B = ~self._items.finite[number_B]
        if not new_B.any():
            return
        if not _all_finite(values_BND):
            bad = ids[int(np.argmin(np.isfinite(values_BND).all(axis=(1, 2))))]
            path = self._shards[int(self._items.shard[self._items.number[bad]])].path
            raise ShardError(
                f"{path}: item {bad!r} holds NaN or infinity; delete the file and extract again"
            )
        if first is None:
            self._items.finite[number_B] = True


class NoItems(Stream):
    """A stream without items, whose width is known: that of captions where there are none."""

    def __init__(self, info: StreamInfo) -> None:
        self.info = info
        self._shards = ()
        self._items = _Items.of(())
        self._dtype = np.dtype(np.float32)


@dataclass(frozen=True, eq=False)
class _Items:
    """Where the items of a stream lie. An item's number is its place in all shards, one after the
    other; the last entry of each array is that of an unknown item, number -1, without rows.

    shard: of each item; start: its first row there; row: its first row in all shards, one after the
    other; count: of its rows; finite: whether its values have been found finite.
    """

    number: Mapping[str, int]
    first: IntArray
    shard: IntArray
    start: IntArray
    row: IntArray
    count: IntArray
    finite: BoolArray

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> Self:
        """Raises ShardError for an id in two shards."""
        number: dict[str, int] = {}
        for shard in shards:
            for item_id in shard.ids:
                if item_id in number:
                    first = next(other.path for other in shards if item_id in other.ids)
                    raise ShardError(f"{shard.path}: item {item_id!r} is also in {first}")
                number[item_id] = len(number)
        sizes = [len(shard.ids) for shard in shards]
        count = np.concatenate([*(np.diff(shard.offset) for shard in shards), [0]])
        return cls(
            number,
            first=np.cumsum([0, *sizes]),
            shard=np.append(np.repeat(np.arange(len(shards)), np.array(sizes, np.int64)), 0),
            start=np.concatenate([*(shard.offset[:-1] for shard in shards), [0]]),
            row=np.cumsum(count) - count,
            count=count,
            finite=count == 0,
        )

    def numbers(self, ids: Sequence[str]) -> IntArray:
        """(B,) of each id."""
        found = (self.number.get(item_id, -1) for item_id in ids)
        return np.fromiter(found, dtype=np.int64, count=len(ids))

    def place(self, item_id: str) -> tuple[int, int] | None:
        """Its shard and its place there; None for an unknown item."""
        number = self.number.get(item_id)
        if number is None:
            return None
        shard = int(self.shard[number])
        return shard, number - int(self.first[shard])


def _all_finite(values: FloatArray) -> bool:
    """As np.isfinite(values).all(), which is slow for float16."""
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    without_sign = values.view(np.uint16) & np.uint16(0x7FFF)
    return bool(without_sign.max(initial=0) < _HALF_INFINITY)


def _allow_open_files(more: int) -> None:
    """Raise the soft limit of open files where it is too low: a mapped shard keeps one open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sum(1 for _ in Path("/dev/fd").iterdir()) + more + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and wanted > soft:
        top = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
