"""A split as a search: its captions as queries, all its videos as the gallery, and every score.

Videos without features stay in the gallery, and captions without features stay queries: both
come last, and are counted.

Q queries, V videos, L levels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from m2hf.errors import UsageError
from m2hf.fuse.config import CAPTIONS
from m2hf.fuse.late_rules import LATE_RULES, BoolArray, Calibration, FloatArray
from m2hf.fuse.model import Retriever
from m2hf.fuse.scoring import LOWEST
from m2hf.fuse.splits import hash_key
from m2hf.fuse.store import FeatureStore
from m2hf.fuse.tokens import caption_tokens, video_tokens
from m2hf.manifest import Row, captions_of

_QUERIES, _VIDEOS = 1024, 256  # scored at a time; fixed, so that bits don't depend on memory


@dataclass(frozen=True, eq=False)
class Gallery:
    """Ids of queries and videos in manifest order; video_of_query (Q,) index of each answer."""

    query_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    video_of_query: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Row], store: FeatureStore, split: str) -> Self:
        """Every caption of `rows` against every video of them.

        Raises UsageError where `split` has no videos, no captions, or no caption features.
        """
        if not rows:
            raise UsageError(f"split {split}: the manifest has no videos in it; name another split")
        place = {row.id: index for index, row in enumerate(rows)}
        captions = list(captions_of(rows))
        ids = tuple(caption.id for caption in captions)
        if not store[CAPTIONS].present(ids).any():
            what = "no features in the store; extract `caption` for it" if ids else "no text"
            raise UsageError(f"split {split}: its {len(ids)} captions have {what}")
        answers = np.array([place[caption.video] for caption in captions], dtype=np.int64)
        return cls(ids, tuple(place), answers)

    @property
    def positives_QV(self) -> NDArray[np.bool_]:
        """(Q, V) True where the video is the query's own."""
        return np.equal(self.video_of_query[:, None], np.arange(len(self.video_ids)))

    def one_query_each(self, asked_Q: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The first of `asked_Q` for each video that has one; videos in order of their hash."""
        first = {int(self.video_of_query[q]): q for q in np.flatnonzero(asked_Q)[::-1].tolist()}
        ordered = sorted(first, key=lambda video: hash_key(self.video_ids[video]))
        return np.array([first[video] for video in ordered], dtype=np.int64)

    def missing(self, store: FeatureStore) -> dict[str, int]:
        """How many videos (or queries, for the captions) have no features, by role."""
        ids = dict.fromkeys(store.video_roles, self.video_ids)
        ids[CAPTIONS] = self.query_ids
        return {role: int((~store[role].present(ids[role])).sum()) for role in sorted(ids)}


@dataclass(frozen=True, eq=False)
class GalleryScores:
    """levels (L, Q, V) float32, -1 where a video is out of a level; valid (L, V); fused (Q, V)
    float32, with videos that no level knows below all others; asked (Q,) queries with features,
    the others having one lowest score for all videos."""

    levels_LQV: NDArray[np.float32]
    valid_LV: NDArray[np.bool_]
    fused_QV: NDArray[np.float32]
    asked_Q: NDArray[np.bool_]


@torch.no_grad()
def score_gallery(
    model: Retriever,
    store: FeatureStore,
    gallery: Gallery,
    device: torch.device,
    statistics: Callable[[FloatArray, BoolArray], Calibration] | None = None,
) -> GalleryScores:
    """Score all queries against all videos, a chunk at a time, and fuse by the model's rule.

    statistics: makes what the rule reads of these scores, in place of the model's own.
    """
    model.eval()
    queries = [
        (part, model.encode_queries(caption_tokens(store, ids, model.query_rows, device)))
        for part, ids in _chunks(gallery.query_ids, _QUERIES)
    ]
    shape = len(gallery.query_ids), len(gallery.video_ids)
    levels_LQV = np.empty((len(model.level_names), *shape), dtype=np.float32)
    valid_LV = np.empty((len(model.level_names), shape[1]), dtype=np.bool_)
    for videos, ids in _chunks(gallery.video_ids, _VIDEOS):
        encoded = model.encode_videos(video_tokens(store, ids, device))
        for part, tokens in queries:
            scores = model.score(tokens, encoded)
            levels_LQV[:, part, videos] = scores.levels.cpu().numpy()
            valid_LV[:, videos] = scores.valid.cpu().numpy()
    asked_Q = store[CAPTIONS].present(gallery.query_ids)
    levels_LQV[~(valid_LV[:, None] & asked_Q[:, None])] = LOWEST
    by = statistics(levels_LQV, valid_LV) if statistics else model.late.calibration()
    fused_QV = LATE_RULES[model.late_rule](levels_LQV, valid_LV, by).astype(np.float32)
    return GalleryScores(levels_LQV, valid_LV, _with_floor(fused_QV, valid_LV, asked_Q), asked_Q)


def _with_floor(
    fused_QV: NDArray[np.float32], valid_LV: NDArray[np.bool_], asked_Q: NDArray[np.bool_]
) -> NDArray[np.float32]:
    known_QV = asked_Q[:, None] & valid_LV.any(axis=0)
    floor = fused_QV[known_QV].min() - 1 if known_QV.any() else LOWEST
    return np.where(known_QV, fused_QV, np.float32(floor))


def _chunks(ids: Sequence[str], size: int) -> Iterator[tuple[slice, Sequence[str]]]:
    for start in range(0, len(ids), size):
        part = slice(start, start + size)
        yield part, ids[part]
