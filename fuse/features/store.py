"""Cached features by id: ragged rows over memory-mapped shards, gathered into padded batches.

numpy only. To a model, a video that is EMPTY in a stream and one without an entry there are both
missing; `Stream.holds` distinguishes them.

B items of a batch, N rows of the longest item, D width of a stream.
"""

import json
import resource
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import BoolArray, FloatArray, IntArray
from m2hf.damage import read_damage
from m2hf.errors import MismatchError, ShardError, UsageError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.level_table import CAPTIONS
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
        # Plain arrays over the maps, and row centres computed once: a batch is many small slices.
        self._values = [np.asarray(shard.values) for shard in shards]
        # Padded as stored: torch converts a batch faster than numpy, and half as much is copied.
        self._dtype = np.result_type(*(values.dtype for values in self._values))
        self._centre_s = [(s.start_s + s.end_s).astype(np.float32) / 2 for s in shards]
        self._where: dict[str, tuple[int, int]] = {}  # id -> (shard, item in it)
        for number, shard in enumerate(shards):
            if shard.header.fingerprint != header.fingerprint:
                raise ShardError(
                    f"{shard.path}: fingerprint {shard.header.fingerprint[:SHORT]} among shards of "
                    f"{header.fingerprint[:SHORT]}; move it to the folder of its own stream"
                )
            for item, item_id in enumerate(shard.ids):
                if item_id in self._where:
                    first = shards[self._where[item_id][0]].path
                    raise ShardError(f"{shard.path}: item {item_id!r} is also in {first}")
                self._where[item_id] = (number, item)

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
        spans = (self._rows(item_id) for item_id in ids)
        return np.array([end - start for _, start, end in spans], dtype=np.int64)

    def holds(self, ids: Sequence[str]) -> BoolArray:
        """(B,) whether each id has an entry, EMPTY or not."""
        return np.array([item_id in self._where for item_id in ids], dtype=np.bool_)

    def present(self, ids: Sequence[str]) -> BoolArray:
        """(B,) whether each id has rows."""
        return self.lengths(ids) > 0

    def gather(self, ids: Sequence[str], first: int | None = None) -> PaddedRows:
        """Rows of `ids`, padded to the longest of them (at least one row wide).

        first: at most this many rows of each item, such as 1 for a caption's sentence.
        Raises ShardError for a value that is not finite.
        """
        found = [self._rows(item_id) for item_id in ids]
        counts = [len(range(start, end)[:first]) for _, start, end in found]
        n = max(counts, default=0) or 1
        rows = PaddedRows(
            np.zeros((len(ids), n, self.info.width), dtype=self._dtype),
            np.zeros((len(ids), n), dtype=np.bool_),
            np.zeros((len(ids), n), dtype=np.float32),
        )
        rows.mask_BN[:] = np.arange(n) < np.array(counts, dtype=np.int64)[:, None]
        for i, ((number, start, _), count) in enumerate(zip(found, counts, strict=True)):
            rows.values_BND[i, :count] = self._values[number][start : start + count]
            rows.time_s_BN[i, :count] = self._centre_s[number][start : start + count]
        if not _all_finite(rows.values_BND):
            # Checked here: a later projection would spread it over the whole batch.
            bad = ids[int(np.argmin(np.isfinite(rows.values_BND).all(axis=(1, 2))))]
            raise ShardError(
                f"{self._shards[self._where[bad][0]].path}: item {bad!r} holds NaN or infinity; "
                "delete the file and extract again"
            )
        return rows

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the D values where the extractor gives names."""
        return tuple(self._shards[0].header.columns)

    def item(self, item_id: str) -> ShardItem | None:
        """One item with its strings; None where the stream has no entry for it.

        Raises ShardError where it doesn't match its digest.
        """
        number, item = self._where.get(item_id, (-1, -1))
        return None if item < 0 else self._shards[number].item(item)

    @property
    def has_strings(self) -> bool:
        """Whether its rows have strings; True for a stream without rows."""
        return all(s.text is not None or not len(s.values) for s in self._shards)

    def strings(self, item_id: str) -> tuple[str, ...]:
        """The strings of an item's rows; none where it has no rows, or no entry.

        Raises ShardError for bytes that aren't UTF-8; the digest is not checked, as in `gather`.
        """
        number, item = self._where.get(item_id, (-1, -1))
        return () if item < 0 else self._shards[number].strings(item)

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
        number, item = self._where.get(item_id, (-1, -1))
        return "" if item < 0 else self._shards[number].reasons[item]

    def digest(self, ids: Iterable[str]) -> str:
        """sha256 over the known ids among `ids` and their digests, in id order."""
        known = sorted({item_id for item_id in ids if item_id in self._where})
        pairs = []
        for item_id in known:
            number, item = self._where[item_id]
            pairs.append([item_id, self._shards[number].digests[item]])
        return sha256_hex(canonical_json(pairs).encode())

    def _rows(self, item_id: str) -> tuple[int, int, int]:
        """Shard number, first row and end row; no rows for an unknown id."""
        number, item = self._where.get(item_id, (-1, -1))
        if item < 0:
            return 0, 0, 0
        offset = self._shards[number].offset
        return number, int(offset[item]), int(offset[item + 1])


def _all_finite(values: FloatArray) -> bool:
    """As np.isfinite(values).all(), which is slow for float16."""
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    without_sign = values.view(np.uint16) & np.uint16(0x7FFF)
    return bool(without_sign.max(initial=0) < _HALF_INFINITY)


class FeatureStore:
    """The streams of one dataset by role: frames, captions, audio, ..."""

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self._streams = dict(streams)

    @classmethod
    def open(cls, root: Path, dataset: str, config: FusionConfig) -> Self:
        """Open what `config` reads of `dataset` in the store at `root`.

        Raises UsageError for a stream that the store lacks, MismatchError for one that should be
        in the joint space and has another width.
        """
        layout = StoreLayout(root, dataset)
        streams = {}
        for role in config.roles:
            try:
                streams[role] = Stream.open(layout, config.streams[role])
            except UsageError as error:
                raise UsageError(f"{error}{without(role, config)}") from error
        shared = sorted(config.shared_roles, key=lambda role: role != CAPTIONS)
        for role in shared[1:]:
            one, other = streams[role].info, streams[shared[0]].info
            if one.width != other.width:
                projected = json.dumps(sorted({*config.project, role}))
                raise MismatchError(
                    f"{layout.folder}: {role} are {one} and {shared[0]} are {other}, but they must "
                    "be in one space; extract both with the same CLIP model, or learn a "
                    f"projection: --set 'fuse.project={projected}'"
                )
        for name, level in config.word_levels.items():
            for role in (level.stream, CAPTIONS):
                if not streams[role].has_strings:
                    advice = "import them with texts" if role == CAPTIONS else "read another stream"
                    raise UsageError(
                        f"{layout.folder}: level {name} compares words, and {role}, which are "
                        f"{streams[role].info}, have no strings; {advice}, or disable this level: "
                        f"--set fuse.levels.{name}.enabled=false"
                    )
        return cls(streams)

    def __getitem__(self, role: str) -> Stream:
        return self._streams[role]

    @property
    def info(self) -> dict[str, StreamInfo]:
        """What artefacts record of each role's stream."""
        return {role: stream.info for role, stream in self._streams.items()}

    @property
    def video_roles(self) -> tuple[str, ...]:
        """Roles whose items are videos: all but the captions."""
        return tuple(role for role in self._streams if role != CAPTIONS)


def without(role: str, config: FusionConfig) -> str:
    """End of an error message about `role`: how to disable its level, where that is possible."""
    levels = [name for name, level in config.active_levels.items() if level.stream == role]
    if role in config.joint_roles[:2] or not levels:
        return ""
    return f"; or disable this level: --set fuse.levels.{levels[0]}.enabled=false"


def _allow_open_files(more: int) -> None:
    """Raise the soft limit of open files where it is too low: a mapped shard keeps one open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sum(1 for _ in Path("/dev/fd").iterdir()) + more + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and wanted > soft:
        top = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
