"""Retrieval metrics under ties: ranks, R@K, MdR, MnR. numpy only.

Among candidates with equal scores the order is undefined, so it is taken as random: R@K is the
expectation over that order, together with the best and the worst order, and a rank is its
expectation too: 1 + better + ties / 2. A constant row, which is what a missing modality gives,
then scores as random guessing. Every query counts, and NaN is an error (design 7).

Scores are read a few rows at a time, so that a mapped file, or rows computed on demand, are never
in memory as a whole.

Q queries (captions), V videos (the gallery), N queries of one direction.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from m2hf.array_types import BoolArray, FloatArray, IntArray

KS = (1, 5, 10, 50)
SUM_KS = (1, 5, 10)  # the three terms of RSum
DIRECTIONS = ("t2v", "v2t")

_CHUNK = 1 << 20  # scores at a time
_ROWS = 255  # and rows at a time, so that a column's count fits a byte


class ScoreMatrix(Protocol):
    """A matrix (Q, V) that is read by slices of rows: an array, a mapped file, or computed rows."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """(Q, V)."""

    def __getitem__(self, rows: slice, /) -> FloatArray:
        """(rows, V)."""


@dataclass(frozen=True)
class Spread:
    """A number under ties: expected over random order, and in the worst and the best order."""

    expected: float
    worst: float
    best: float

    @property
    def tied(self) -> bool:
        """Whether ties make a difference."""
        return self.worst != self.best


@dataclass(frozen=True, eq=False)
class Ranks:
    """The rank of the positive of each of N queries.

    better: candidates with a higher score; ties: negatives with the same score; own: positives
    with the same score, 1 unless a query has several positives; video: the video that the query
    belongs to (T2V) or is (V2T). All (N,) integers.
    """

    better: IntArray
    ties: IntArray
    own: IntArray
    video: IntArray

    @property
    def expected(self) -> FloatArray:
        """(N,) expected rank over random order of ties: the first of `own` among `ties` others."""
        return 1 + self.better + self.ties / (self.own + 1)

    def of_videos(self, chosen_V: BoolArray) -> "Ranks":
        """The queries whose video is chosen, against the same candidates."""
        return self.of_queries(chosen_V[self.video])

    def of_queries(self, chosen_N: BoolArray) -> "Ranks":
        """The chosen queries, against the same candidates."""
        columns = (self.better, self.ties, self.own, self.video)
        return Ranks(*(column[chosen_N] for column in columns))

    def recall(self, k: int) -> Spread:
        """R@k in percent over all N queries."""
        worst = self.better + self.ties < k
        best = self.better < k
        return Spread(*(100 * float(np.mean(x)) for x in (self.hit_share(k), worst, best)))

    def hit_share(self, k: int) -> FloatArray:
        """(N,) probability that the best positive is among the first k.

        It is not if all of the k - better places left are taken by negatives:
        prod_i (ties - i) / (ties + own - i).
        """
        room = k - self.better
        miss = np.ones(len(room))
        for i in range(k):
            others = np.maximum(self.ties - i, 0)
            miss = np.where(i < room, miss * others / (others + self.own), miss)
        return 1 - miss


@dataclass(frozen=True)
class RetrievalMetrics:
    """One direction: recalls in percent by K, median and mean rank, over `queries` queries."""

    queries: int
    candidates: int
    recall: dict[int, Spread]
    median: Spread
    mean: Spread

    @property
    def mean_rank(self) -> float:
        """MnR, of expected ranks."""
        return self.mean.expected

    @property
    def recall_sum(self) -> float:
        """RSum with three terms: R@1 + R@5 + R@10."""
        return sum(self.recall[k].expected for k in SUM_KS)

    @classmethod
    def of(cls, ranks: Ranks, candidates: int) -> "RetrievalMetrics":
        """Summarise; raises ValueError where there is no query."""
        if not len(ranks.better):
            raise ValueError("no queries: a metric over nothing is undefined")
        orders = (ranks.expected, 1 + ranks.better + ranks.ties, 1 + ranks.better)
        return cls(
            queries=len(ranks.better),
            candidates=candidates,
            recall={k: ranks.recall(k) for k in KS},
            median=Spread(*(float(np.median(order)) for order in orders)),
            mean=Spread(*(float(np.mean(order)) for order in orders)),
        )


def t2v_ranks(scores_QV: ScoreMatrix, video_of_query: IntArray) -> Ranks:
    """Rank of each query's video among all V videos; several queries may share a video.

    Raises ValueError for NaN and for an index or a shape that doesn't fit.
    """
    check_answers(scores_QV.shape, video_of_query)
    better, ties = np.empty((2, len(video_of_query)), dtype=np.int64)
    for part, rows_QV in row_chunks(scores_QV):
        own_Q1 = _own(rows_QV, video_of_query[part])[:, None]
        better[part] = _count(rows_QV > own_Q1, axis=1)
        ties[part] = _count(rows_QV == own_Q1, axis=1) - 1
    return Ranks(better, ties, np.ones_like(better), video_of_query)


def v2t_ranks(scores_QV: ScoreMatrix, video_of_query: IntArray) -> Ranks:
    """Rank of each captioned video's best own caption among the captions of other videos, in
    the order of the videos.

    A video's other captions are positives, so they take no place. Where m own captions share the
    best score with t captions of other videos, the first own one comes after t / (m + 1) of them
    on average. Videos without a caption are not queries here.
    Raises ValueError for NaN and for an index or a shape that doesn't fit.
    """
    check_answers(scores_QV.shape, video_of_query)
    videos, group_Q = np.unique(video_of_query, return_inverse=True)
    own_Q = _own_scores(scores_QV, video_of_query)
    best_N = _best_own(own_Q, group_Q, len(videos))
    own = np.bincount(group_Q[own_Q == best_N[group_Q]], minlength=len(videos))
    better, level = np.zeros((2, len(videos)), dtype=np.int64)
    everyone = len(videos) == scores_QV.shape[1]
    for _, rows_QV in row_chunks(scores_QV):
        rows_QN = rows_QV if everyone else rows_QV[:, videos]
        best = best_N.astype(rows_QN.dtype)  # exact: it is one of these scores
        better += _count(rows_QN > best, axis=0)
        level += _count(rows_QN == best, axis=0)
    return Ranks(better, level - own, own, videos)


def v2t_group_ranks(scores_QV: ScoreMatrix, video_of_query: IntArray) -> Ranks:
    """The other rule for several captions: a video ranks the videos by their best caption, as
    CLIP4Clip's code does for MSVD, so that a candidate is a group of captions and not one.

    With one caption a video it is `v2t_ranks`. Raises as `v2t_ranks`. Groups are read one after
    the other, so that no more than a group's rows are in memory.
    """
    check_answers(scores_QV.shape, video_of_query)
    videos, group_Q = np.unique(video_of_query, return_inverse=True)
    best_N = _best_own(_own_scores(scores_QV, video_of_query), group_Q, len(videos))
    order = np.argsort(group_Q, kind="stable")
    better, level = np.zeros((2, len(videos)), dtype=np.int64)
    for rows in np.split(order, np.cumsum(np.bincount(group_Q))[:-1]) if len(order) else ():
        highest_N = _highest(scores_QV, rows)[videos]
        best = best_N.astype(highest_N.dtype)
        better += highest_N > best
        level += highest_N == best
    return Ranks(better, level - 1, np.ones_like(better), videos)


def text_to_video(scores_QV: ScoreMatrix, video_of_query: IntArray) -> RetrievalMetrics:
    """T2V: every query ranks the V videos."""
    return RetrievalMetrics.of(t2v_ranks(scores_QV, video_of_query), scores_QV.shape[1])


def video_to_text(scores_QV: ScoreMatrix, video_of_query: IntArray) -> RetrievalMetrics:
    """V2T: every captioned video ranks the Q captions; see `v2t_ranks` for the rule."""
    return RetrievalMetrics.of(v2t_ranks(scores_QV, video_of_query), scores_QV.shape[0])


def row_chunks(scores_QV: ScoreMatrix) -> Iterator[tuple[slice, FloatArray]]:
    """Chunks of rows with their slice; raises ValueError at the first NaN."""
    queries, videos = scores_QV.shape
    rows = min(max(_CHUNK // max(videos, 1), 1), _ROWS)
    for start in range(0, queries, rows):
        part = slice(start, min(start + rows, queries))
        rows_QV = scores_QV[part]
        if np.isnan(rows_QV).any():
            row, column = np.argwhere(np.isnan(rows_QV))[0]
            raise ValueError(f"row {start + row}, column {column} is NaN, which can't be ranked")
        yield part, rows_QV


def check_answers(shape: tuple[int, ...], video_of_query: IntArray) -> None:
    """Raises ValueError unless `video_of_query` is a ground truth for scores of this shape."""
    if len(shape) != 2 or video_of_query.shape != (shape[0],):
        raise ValueError(
            f"expected scores (Q, V) and an index (Q,), got {shape} and {video_of_query.shape}"
        )
    if len(video_of_query) and not (0 <= video_of_query.min() <= video_of_query.max() < shape[1]):
        raise ValueError(f"a query names a video outside 0..{shape[1] - 1}")


def _own(rows_QV: FloatArray, video_of_query: IntArray) -> FloatArray:
    own: FloatArray = rows_QV[np.arange(len(rows_QV)), video_of_query]
    return own


def _own_scores(scores_QV: ScoreMatrix, video_of_query: IntArray) -> FloatArray:
    """(Q,) the score of each query's own video; raises ValueError for NaN anywhere."""
    own = [_own(rows_QV, video_of_query[part]) for part, rows_QV in row_chunks(scores_QV)]
    return np.concatenate([np.empty(0), *own])


def _best_own(own_Q: FloatArray, group_Q: IntArray, groups: int) -> FloatArray:
    """(N,) the highest own score of each group of captions."""
    best_N = np.full(groups, -np.inf)
    np.maximum.at(best_N, group_Q, own_Q)
    return best_N


def _highest(scores_QV: ScoreMatrix, rows: IntArray) -> FloatArray:
    """(V,) the highest score of `rows` in each column; rows are read by runs of neighbours."""
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    highest = [scores_QV[run[0] : run[-1] + 1].max(axis=0) for run in runs]
    whole: FloatArray = np.max(highest, axis=0)
    return whole


def _count(flags: BoolArray, axis: int) -> IntArray:
    """How many are True along `axis`. numpy adds bytes much faster than it widens booleans."""
    narrow = np.min_scalar_type(flags.shape[axis])
    count: IntArray = np.add.reduce(flags.view(np.uint8), axis=axis, dtype=narrow).astype(np.int64)
    return count
