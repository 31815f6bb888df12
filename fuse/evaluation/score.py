"""Scores of a gallery, block by block, into arrays or into datasets of an HDF5 file.

Both are written by blocks and read by rows, so that a small validation part is scored in memory
and a benchmark to disk, by the same code and to the same bits.

Q queries, V videos, L levels; q and v of a block.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from m2hf.array_types import BoolArray, FloatArray
from m2hf.fuse.evaluation.blocks import FUSED_CELLS, Workspace
from m2hf.fuse.evaluation.scratch import matrices
from m2hf.fuse.features.gallery import Gallery
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model.retriever import Retriever
from m2hf.fuse.model.tokens import caption_tokens, video_tokens
from m2hf.fuse.model.word_index import WordBlock, texts_of
from m2hf.fuse.scores.late_rules import LATE_RULES, Calibration
from m2hf.fuse.scores.similarity_file import MISSING_SCORE


class Matrix(Protocol):
    """(Q, V) float32, written by blocks and read by rows: an array or a dataset."""

    def __getitem__(self, rows: slice, /) -> Any:
        """(q, V)."""

    def __setitem__(self, block: Any, scores: Any, /) -> None:
        """Rows, or rows and columns, by slices."""


@dataclass(frozen=True, eq=False)
class Target:
    """Queries by id, and the matrices to write: one a level, and the fused one."""

    query_ids: Sequence[str]
    levels: Sequence[Matrix]
    fused: Matrix


@dataclass(frozen=True, eq=False)
class GalleryScores:
    """levels (L, Q, V) float32, -1 where a video is not valid in a level; valid (L, V); fused
    (Q, V) float32, with videos that are valid in no level below all others; present (Q,): queries
    with features in every query role. Without any, all videos have one lowest score."""

    levels_LQV: NDArray[np.float32]
    valid_LV: BoolArray
    fused_QV: NDArray[np.float32]
    present_Q: BoolArray


def score_gallery(
    model: Retriever,
    store: FeatureStore,
    gallery: Gallery,
    device: torch.device,
    statistics: Callable[[FloatArray, BoolArray], Calibration] | None = None,
) -> GalleryScores:
    """Score all queries against all videos, and fuse by the model's rule. Matrices that take more
    than half of `fuse.eval.memory_mb` are in a temporary file.

    statistics: computes the statistics of the rule from these scores; default: the model's own.
    Raises UsageError as `Workspace.of`, ResourceError as `matrices`.
    """
    shape = len(gallery.query_ids), len(gallery.video_ids)
    given = model.config.eval.memory_mb << 20
    *levels, fused_QV = both = matrices(len(model.level_names) + 1, *shape, given // 2)
    levels_LQV = both[:-1]
    target = Target(gallery.query_ids, levels, fused_QV)
    valid_LV = score_levels(model, store, [target], gallery.video_ids, device)
    by = statistics(levels_LQV, valid_LV) if statistics else model.late.calibration()
    fuse_levels(model, store, target, valid_LV, by)
    return GalleryScores(levels_LQV, valid_LV, fused_QV, store.told(target.query_ids))


@torch.no_grad()
def score_levels(
    model: Retriever,
    store: FeatureStore,
    targets: Sequence[Target],
    video_ids: Sequence[str],
    device: torch.device,
) -> BoolArray:
    """Write every level of each target, -1 where a video is not valid in a level or the query has
    no features in its role; returns the valid videos of each level, (L, V). Memory is bounded by
    `fuse.eval.memory_mb`; raises UsageError where that is too little.
    """
    model.eval()
    space = Workspace.of(model.config, store, [target.query_ids for target in targets], video_ids)
    queries = _QueryCache(model, store, device, space.kept)
    valid_LV = np.empty((len(model.level_names), len(video_ids)), dtype=np.bool_)
    todo = [
        (target, part)
        for target, blocks in zip(targets, space.queries, strict=True)
        for part in blocks.parts
    ]
    for videos in space.videos.parts:
        encoded = model.encode_videos(video_tokens(store, video_ids[videos], device))
        words = WordBlock.of(model.words, model.config, store, video_ids[videos])
        for number, (target, part) in enumerate(todo):
            ids = target.query_ids[part]
            scores = model.score(queries.encoded(number, ids), encoded)
            valid_LV[:, videos] = np.concatenate([scores.valid.cpu().numpy(), words.valid_LV])
            available_Lqv = valid_LV[:, None, videos] & _present(model, store, ids)[..., None]
            texts = texts_of(model.config, store, ids)
            found_Lqv = [scores.levels.cpu().numpy(), words.scores(texts)]
            scores_Lqv = np.where(
                available_Lqv, np.concatenate(found_Lqv), np.float32(MISSING_SCORE)
            )
            for matrix, scores_qv in zip(target.levels, scores_Lqv, strict=True):
                matrix[part, videos] = scores_qv
        del encoded  # otherwise two blocks are in memory while the next is encoded
    return valid_LV


def fuse_levels(
    model: Retriever,
    store: FeatureStore,
    target: Target,
    valid_LV: BoolArray,
    by: Calibration,
) -> None:
    """Fuse the levels of a target by the model's rule, some rows at a time: for each query those
    whose query role it has features in. The score of a video that is valid in none of them, and so
    every score of a query without features, is the lowest of all other scores minus 1."""
    present_LQ = _present(model, store, target.query_ids)
    rule, all_available, floor = LATE_RULES[model.late_rule], True, np.float32(np.inf)
    for rows in _rows(present_LQ.shape[1], valid_LV.size):
        levels_LqV = np.stack([matrix[rows] for matrix in target.levels])
        fused_qV = np.zeros(levels_LqV.shape[1:], np.float32)
        for has_L, chosen_q in _alike(present_LQ[:, rows]):
            known_LV = valid_LV & has_L[:, None]
            fused_qV[chosen_q] = rule(levels_LqV[:, chosen_q], known_LV, by).astype(np.float32)
        available_qV = _available(present_LQ[:, rows], valid_LV)
        all_available &= bool(available_qV.all())
        floor = min(floor, fused_qV[available_qV].min(initial=floor))
        target.fused[rows] = fused_qV
    if all_available:
        return
    floor = floor - np.float32(1) if np.isfinite(floor) else np.float32(MISSING_SCORE)
    for rows in _rows(present_LQ.shape[1], valid_LV.size):
        available_qV = _available(present_LQ[:, rows], valid_LV)
        target.fused[rows] = np.where(available_qV, target.fused[rows], floor)


def _present(model: Retriever, store: FeatureStore, ids: Sequence[str]) -> BoolArray:
    """(L, Q) whether the captions `ids` have features in the query role of each level."""
    present = {role: store[role].present(ids) for role in store.query_roles}
    levels = model.config.active_levels.values()
    return np.array([present[level.query] for level in levels], dtype=np.bool_)


def _available(present_LQ: BoolArray, valid_LV: BoolArray) -> BoolArray:
    """(Q, V) whether some level that the query has features for is valid for the video."""
    available_QV: BoolArray = present_LQ.T @ valid_LV
    return available_QV


def _alike(present_LQ: BoolArray) -> Iterator[tuple[BoolArray, BoolArray | slice]]:
    """Each set of levels that queries have features for, unless it is empty, and those queries:
    (L,) and (Q,), or a slice of all, which needs no copy."""
    sets_LP, set_Q = np.unique(present_LQ, axis=1, return_inverse=True)
    for number, has_L in enumerate(sets_LP.T):
        if has_L.any():
            alone = sets_LP.shape[1] == 1
            yield has_L, slice(None) if alone else set_Q.reshape(-1) == number


class _QueryCache:
    """Encoded blocks of queries: the first `kept` are cached, the others encoded each time."""

    def __init__(
        self, model: Retriever, store: FeatureStore, device: torch.device, kept: int
    ) -> None:
        self._model, self._store, self._device = model, store, device
        self._room, self._kept = kept, dict[int, Any]()

    def encoded(self, number: int, ids: Sequence[str]) -> Any:
        """Block `number`, of the queries `ids`."""
        if number in self._kept:
            return self._kept[number]
        captions = caption_tokens(self._store, ids, self._model.query_rows, self._device)
        encoded = self._model.encode_queries(captions)
        if number < self._room:
            self._kept[number] = encoded
        return encoded


def _rows(queries: int, cells: int) -> Iterator[slice]:
    """Slices of the queries; one query has `cells` scores."""
    size = max(1, FUSED_CELLS // max(1, cells))
    for start in range(0, queries, size):
        yield slice(start, start + size)
