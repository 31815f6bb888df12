"""A split as a retrieval task: its captions as queries, all its videos as the gallery.

Videos without features stay in the gallery, and captions without features stay queries: both
rank last, and are counted.

Q queries, V videos.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from m2hf.array_types import BoolArray, IntArray
from m2hf.errors import UsageError
from m2hf.fuse.features.splits import hash_key
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import CAPTIONS
from m2hf.manifest import Caption, Row, captions_of
from m2hf.streams import extractor_of


@dataclass(frozen=True, eq=False)
class Gallery:
    """Ids of queries and videos in manifest order; video_of_query (Q,): the ground truth, the index
    of each query's own video."""

    query_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    video_of_query: IntArray

    @classmethod
    def of(cls, rows: Sequence[Row], store: FeatureStore, split: str) -> Self:
        """All captions of `rows` against all videos of `rows`.

        Raises UsageError where `split` has no videos, no captions, or no caption features.
        """
        if not rows:
            raise UsageError(f"split {split}: the manifest has no videos in it; name another split")
        require_captions(rows, f"split {split}")
        place = {row.id: index for index, row in enumerate(rows)}
        captions = list(captions_of(rows))
        ids = tuple(caption.id for caption in captions)
        for role in store.query_roles:
            if not store[role].present(ids).any():
                lacks = "the store" if role == CAPTIONS else f"stream {store[role].info.name}"
                missing = extractor_of(store[role].info.name)
                raise UsageError(
                    f"split {split}: its {len(ids)} captions have no features in {lacks}; "
                    f"extract `{missing}` for it"
                )
        truth = np.array([place[caption.video] for caption in captions], dtype=np.int64)
        return cls(ids, tuple(place), truth)

    @classmethod
    def of_captions(cls, captions: Sequence[Caption]) -> Self:
        """`captions` against the videos that they describe, in the order in which they occur."""
        place = {video: i for i, video in enumerate(dict.fromkeys(c.video for c in captions))}
        truth = np.array([place[caption.video] for caption in captions], dtype=np.int64)
        return cls(tuple(caption.id for caption in captions), tuple(place), truth)

    @property
    def positives_QV(self) -> BoolArray:
        """(Q, V) True where the video is the query's own."""
        return np.equal(self.video_of_query[:, None], np.arange(len(self.video_ids)))

    def sample(self, present_Q: BoolArray, queries: int, videos: int) -> tuple[IntArray, IntArray]:
        """Indices of at most `queries` of the queries in `present_Q`, and of their at most `videos`
        videos: those with the lowest hashes, since the first caption of each video may be of one
        kind."""
        present = np.flatnonzero(present_Q)
        with_queries = np.unique(self.video_of_query[present]).tolist()
        chosen = sorted(with_queries, key=lambda video: hash_key(self.video_ids[video]))[:videos]
        candidates = present[np.isin(self.video_of_query[present], chosen)].tolist()
        drawn = sorted(candidates, key=lambda query: hash_key(self.query_ids[query]))[:queries]
        queries_N = np.array(drawn, dtype=np.int64)
        return queries_N, np.unique(self.video_of_query[queries_N])

    def missing(self, store: FeatureStore) -> dict[str, int]:
        """Number of videos (for captions: queries) without features, by role."""
        ids = dict.fromkeys(store.video_roles, self.video_ids)
        ids |= dict.fromkeys(store.query_roles, self.query_ids)
        return {role: int((~store[role].present(ids[role])).sum()) for role in sorted(ids)}


def require_captions(rows: Sequence[Row], where: str) -> None:
    """Raise a UsageError if there are `rows`, and none has a caption; where: what they are of."""
    if rows and not any(row.captions for row in rows):
        raise UsageError(
            f"{where}: none of its {len(rows)} videos has a caption in the manifest; training and "
            "evaluation need captions: make the manifest with --captions"
        )


def querybank(rows: Sequence[Row], store: FeatureStore, size: int) -> tuple[str, ...]:
    """Ids of the `size` captions with features in every query role and the lowest sha256 among
    the training videos `rows`. Raises UsageError where there are fewer."""
    ids = [caption.id for caption in captions_of(rows)]
    there = [x for x, has in zip(ids, store.told(ids), strict=True) if has]
    if len(there) < size:
        raise UsageError(
            f"fuse.eval.bank={size}: split train has {len(there)} captions with features; "
            "ask for no more, or extract `caption` for it"
        )
    return tuple(sorted(there, key=hash_key)[:size])
