"""Blocks of a gallery, and the memory that scoring them takes.

The blocks follow from the lengths of the features alone, so that the bits of a score don't depend
on the memory available. Memory decides only how many blocks of encoded queries are cached; the
others are encoded again for each block of videos. (Caching videos instead would cost more, since
videos pass early fusion.)

The memory of a block is an upper bound from the sizes of its tensors on the device that scores;
the program itself and the features, which are mapped from disk, come on top.

Q queries, V videos, N items, R streams, P blocks, L levels, D joint width, M width of a stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from m2hf.array_types import IntArray
from m2hf.errors import UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.model.adapters import joint_widths, own_captions
from m2hf.fuse.model.interaction import CELLS
from m2hf.fuse.model.scorers import SCORERS

FUSED_CELLS = 1 << 18  # level scores that late fusion reads at a time

_QUERIES, _VIDEOS = 1024, 256  # at most in a block
_QUERY_ROWS, _VIDEO_ROWS = 1 << 15, 1 << 14  # at most padded rows in a block, over all streams
_FLOAT = 4  # bytes
_MIB = 1 << 20

# Upper bounds on the tensors of one size that exist at the same time.
_ENCODING, _ATTENTION, _COSINES, _FUSION = 6, 5, 5, 20


@dataclass(frozen=True, eq=False)
class Blocks:
    """parts: P slices of items; rows_RP: rows that each stream is padded to in each of them."""

    parts: tuple[slice, ...]
    rows_RP: IntArray

    @classmethod
    def of(cls, lengths_RN: IntArray, items: int, rows: int) -> Self:
        """Consecutive items, at most `items` with at most `rows` padded rows over all streams; an
        item with more rows has a block of its own. A stream is padded to at least one row."""
        lengths_RN = np.maximum(lengths_RN, 1)
        cuts, padded = [0], []
        most_R = np.zeros(len(lengths_RN), dtype=np.int64)
        for item, own_R in enumerate(lengths_RN.T):
            count, wider_R = item + 1 - cuts[-1], np.maximum(most_R, own_R)
            if count > 1 and (count > items or count * int(wider_R.sum()) > rows):
                cuts.append(item)
                padded.append(most_R)
                wider_R = own_R
            most_R = wider_R
        ends = [*cuts[1:], lengths_RN.shape[1]]
        parts = tuple(slice(*cut) for cut in zip(cuts, ends, strict=True))
        return cls(parts, np.stack([*padded, most_R], axis=1))

    @property
    def counts_P(self) -> IntArray:
        """(P,) items of each block."""
        return np.array([part.stop - part.start for part in self.parts], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Workspace:
    """The blocks of queries (one or more sets of them) and of videos. kept: how many blocks of
    queries, counted through all sets, are cached; free_bytes: memory that is left for these."""

    queries: tuple[Blocks, ...]
    videos: Blocks
    kept: int
    free_bytes: int

    @classmethod
    def of(
        cls,
        config: FusionConfig,
        store: FeatureStore,
        query_sets: Sequence[Sequence[str]],
        video_ids: Sequence[str],
    ) -> Self:
        """Raises UsageError where the memory that the config gives is too little."""
        sizes = _Sizes(config, store)
        queries = tuple(sizes.queries(ids) for ids in query_sets)
        videos = sizes.videos(video_ids)
        encoded = np.concatenate([sizes.encoded_queries(blocks) for blocks in queries])
        needed = max(sizes.scoring(int(encoded.max()), videos), sizes.fusion(len(video_ids)))
        given = config.eval.memory_mb * _MIB
        if needed > given:
            raise UsageError(
                f"fuse.eval.memory_mb={config.eval.memory_mb}: scoring {len(video_ids)} videos "
                f"of these lengths needs {-(-needed // _MIB)} MiB; set it to that"
            )
        kept = int(np.searchsorted(encoded.cumsum(), given - needed, side="right"))
        return cls(queries, videos, kept, given - needed)


@dataclass(frozen=True)
class _Sizes:
    """Sizes in bytes, from the widths of streams and model."""

    config: FusionConfig
    store: FeatureStore

    @property
    def joint(self) -> dict[str, int]:
        """By joint role."""
        return joint_widths(self.config, {r: info.width for r, info in self.store.info.items()})

    @property
    def members(self) -> int:
        """Networks, each with its own copy of encoded frames."""
        return len(self.config.trained_levels) if self.config.strategy == "ensemble" else 1

    @property
    def query_copies(self) -> dict[str, int]:
        """Encodings of a query by role: one a network, and one of each level with its own
        captions."""
        levels = self.config.trained_levels
        copies = dict.fromkeys(self.store.query_roles, 1)
        if self.config.strategy == "ensemble":  # each network has frames, and so `captions`
            readers = [level.query for level in levels.values()]
            copies = {role: max(1, readers.count(role)) for role in copies}
            copies[CAPTIONS] = self.members
        for name in own_captions(self.config):
            copies[levels[name].query] += 1
        return copies

    def queries(self, ids: Sequence[str]) -> Blocks:
        lengths_RN = np.stack([self.store[role].lengths(ids) for role in self.store.query_roles])
        first = SCORERS[self.config.scoring].query_rows
        lengths_RN = lengths_RN if first is None else np.minimum(lengths_RN, first)
        return Blocks.of(lengths_RN, _QUERIES, _QUERY_ROWS)

    def videos(self, ids: Sequence[str]) -> Blocks:
        lengths = [self.store[role].lengths(ids) for role in self.store.video_roles]
        return Blocks.of(np.stack(lengths), _VIDEOS, _VIDEO_ROWS)

    def encoded_queries(self, blocks: Blocks) -> IntArray:
        """(P,) of each block."""
        width = {role: self._joint(role) for role in self.store.query_roles}
        floats_R = [width[role] * copies for role, copies in self.query_copies.items()]
        each_P = np.array(floats_R, dtype=np.int64) @ blocks.rows_RP
        bytes_P: IntArray = _FLOAT * blocks.counts_P * each_P
        return bytes_P

    def scoring(self, queries: int, videos: Blocks) -> int:
        """Of scoring the largest block of videos with a block of `queries` bytes of queries."""
        rows = dict(zip(self.store.video_roles, videos.rows_RP, strict=True))
        width = {role: self.store.info[role].width for role in rows}
        frames, levels = rows[FRAMES], self.config.trained_levels.values()
        fused = [rows[level.stream] for level in levels if level.fusion != "none"]
        tokens = sum(n * (width[role] + self._joint(role)) for role, n in rows.items())
        tokens += (self.members + 2 * len(fused)) * frames * self._joint(FRAMES)
        longest = np.maximum(2 * frames, videos.rows_RP.max(axis=0))
        widest = max(*self.joint.values(), self.config.model.width, *width.values())
        encoding = _ENCODING * longest * widest
        other = np.max([frames, *fused], axis=0)
        encoding += _ATTENTION * self.config.model.heads * frames * other
        held = int((_FLOAT * videos.counts_P * (tokens + encoding)).max())
        cosines = 0 if self.config.scoring == "mean" else _FLOAT * _COSINES * CELLS
        return held + queries + max(_ENCODING * queries // min(self.query_copies.values()), cosines)

    def _joint(self, role: str) -> int:
        """D of a role's space; of the frames' for a role that is compared with none."""
        return self.joint.get(role, self.joint[FRAMES])

    def fusion(self, videos: int) -> int:
        levels = len(self.config.active_levels)
        return _FLOAT * _FUSION * max(FUSED_CELLS, levels * videos)
