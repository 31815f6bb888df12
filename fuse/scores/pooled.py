"""A split with one row an item: what baselines are fitted to and scored on. numpy only.

Q queries, V or B videos, D width of the captions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import BoolArray, IntArray
from m2hf.errors import UsageError
from m2hf.features import unit_rows
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.gallery import Gallery
from m2hf.fuse.features.splits import TrainingSet, train_and_val
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.scores.metrics import text_to_video
from m2hf.fuse.scores.similarity_file import MISSING_SCORE
from m2hf.manifest import Manifest, Split

Array = NDArray[np.float64]

_CHUNK = 1024  # items at a time


@dataclass(frozen=True, eq=False)
class PooledSplit:
    """One split, pooled: queries (Q, D) of norm 1, whether they have features, the ground truth,
    and features (V, ·) and presence (V,) by role; query: the role of these queries; others: the
    first two of each other query role."""

    queries_QD: Array
    present_Q: BoolArray
    video_of_query: IntArray
    pooled: dict[str, Array]
    present: dict[str, BoolArray]
    query: str = CAPTIONS
    others: Mapping[str, tuple[Array, BoolArray]] = field(default_factory=dict)

    @classmethod
    def of(cls, gallery: Gallery, store: FeatureStore) -> Self:
        """The queries and videos of `gallery`, pooled."""
        ids = gallery.query_ids
        queries = {
            role: (unit_rows(_pooled(store, role, ids, first=1)), store[role].present(ids))
            for role in store.query_roles
        }
        queries_QD, present_Q = queries.pop(CAPTIONS)
        return cls(
            queries_QD=queries_QD,
            present_Q=present_Q,
            video_of_query=gallery.video_of_query,
            pooled={role: _pooled(store, role, gallery.video_ids) for role in store.video_roles},
            present={role: store[role].present(gallery.video_ids) for role in store.video_roles},
            others=queries,
        )

    def asked(self, query: str) -> Self:
        """The same with the queries of another role."""
        if query == self.query:
            return self
        queries_QD, present_Q = self.others[query]
        return replace(self, queries_QD=queries_QD, present_Q=present_Q, query=query)

    def valid_V(self, needed: str) -> BoolArray:
        """(V,) whether a video has what its score is computed from: frames, and the role
        `needed`."""
        valid_V: BoolArray = self.present[FRAMES] & self.present[needed]
        return valid_V

    def result(self, scores_QV: Array, needed: str) -> tuple[float, float]:
        """T2V R@1 in percent, and minus the mean rank, of scores that only queries and videos with
        features have."""
        valid_QV = self.present_Q[:, None] & self.valid_V(needed)
        masked_QV = np.where(valid_QV, scores_QV, MISSING_SCORE)
        metrics = text_to_video(masked_QV, self.video_of_query)
        return metrics.recall[1].expected, -metrics.mean_rank


def pooled_splits(
    manifest: Manifest, store: FeatureStore, config: FusionConfig, split: Split = "test"
) -> tuple[PooledSplit, PooledSplit, PooledSplit]:
    """What a model is fitted on, chosen on and scored on: train with the captions that a run
    trains on, the validation part, and `split`.

    Raises UsageError where training has no video with frames and a caption, and where one of the
    others has no caption.
    """
    scored = Gallery.of(manifest.split(split), store, split)
    return *training_and_val(manifest, store, config), PooledSplit.of(scored, store)


def training_and_val(
    manifest: Manifest, store: FeatureStore, config: FusionConfig
) -> tuple[PooledSplit, PooledSplit]:
    """The first two of `pooled_splits`."""
    train_rows, val_rows = train_and_val(manifest, config.train.val_fraction)
    captions = TrainingSet.of(train_rows, store, config).captions
    if not captions:
        raise UsageError("split train: no video has frames and a caption in the store")
    train, val = Gallery.of_captions(captions), Gallery.of(val_rows, store, "val")
    return PooledSplit.of(train, store), PooledSplit.of(val, store)


def _pooled(store: FeatureStore, role: str, ids: Sequence[str], first: int | None = None) -> Array:
    """(B, D) mean over the (first) rows of each item; zeros for an item without rows."""
    pooled = [np.zeros((0, store[role].info.width))]
    for start in range(0, len(ids), _CHUNK):
        rows = store[role].gather(ids[start : start + _CHUNK], first=first)
        count_B1 = np.maximum(rows.mask_BN.sum(axis=1), 1)[:, None]
        pooled.append(rows.values_BND.sum(axis=1, dtype=np.float64) / count_B1)
    return np.concatenate(pooled)
