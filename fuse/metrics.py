"""Retrieval metrics under ties: ranks, R@K, MdR, MnR. numpy only.

Among candidates with equal scores the order is undefined, so it is taken as random: R@K is the
expectation over that order, with the best and the worst order beside it, and a rank is its
expectation too: 1 + better + ties / 2. A constant row, which is what a missing modality gives,
is then worth what guessing is worth. Every query counts, and NaN is an error (design 7).

Q queries (captions), V videos (the gallery).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]

KS = (1, 5, 10, 50)
SUM_KS = (1, 5, 10)  # the three terms of RSum


@dataclass(frozen=True)
class Recall:
    """R@K in percent: expected over random order of ties, and with the worst and best order."""

    expected: float
    worst: float
    best: float

    @property
    def tied(self) -> bool:
        """Whether ties make a difference."""
        return self.worst != self.best


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where the right answer of each of N queries lies.

    better: candidates above it; ties: other candidates level with it; own: right answers that
    share its score, 1 unless a query has several right answers. All (N,) integers.
    """

    better: IntArray
    ties: IntArray
    own: IntArray

    @property
    def expected(self) -> FloatArray:
        """(N,) mean rank over random order: the first of `own` among `ties` others."""
        return 1 + self.better + self.ties / (self.own + 1)

    def recall(self, k: int) -> Recall:
        """R@k over all N queries."""
        worst = self.better + self.ties < k
        best = self.better < k
        return Recall(*(100 * float(np.mean(x)) for x in (self._hit_share(k), worst, best)))

    def _hit_share(self, k: int) -> FloatArray:
        """(N,) probability that the best right answer is among the first k.

        It is not exactly if all of the k - better places left go to others:
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
    recall: dict[int, Recall]
    median_rank: float
    mean_rank: float

    @property
    def recall_sum(self) -> float:
        """RSum with three terms: R@1 + R@5 + R@10."""
        return sum(self.recall[k].expected for k in SUM_KS)

    @classmethod
    def of(cls, ranks: Ranks, candidates: int) -> "RetrievalMetrics":
        """Summarise; raises ValueError where there is no query."""
        if not len(ranks.better):
            raise ValueError("no queries: a metric over nothing is undefined")
        return cls(
            queries=len(ranks.better),
            candidates=candidates,
            recall={k: ranks.recall(k) for k in KS},
            median_rank=float(np.median(ranks.expected)),
            mean_rank=float(np.mean(ranks.expected)),
        )


def t2v_ranks(scores_QV: FloatArray, video_of_query: IntArray) -> Ranks:
    """Rank of each query's video among all V videos; several queries may share a video.

    Raises ValueError for NaN and for an index or a shape that doesn't fit.
    """
    _check(scores_QV, video_of_query)
    own_Q1 = np.take_along_axis(scores_QV, video_of_query[:, None], axis=1)
    better = (scores_QV > own_Q1).sum(axis=1)
    ties = (scores_QV == own_Q1).sum(axis=1) - 1
    return Ranks(better, ties, np.ones_like(better))


def v2t_ranks(scores_QV: FloatArray, video_of_query: IntArray) -> Ranks:
    """Rank of each captioned video's best own caption among the captions of other videos.

    A video's other captions are right answers, not competitors, so they take no place. Where
    m own captions share the best score with t captions of other videos, the first own one comes
    after t / (m + 1) of them on average. Videos without a caption are not queries here.
    Raises ValueError for NaN and for an index or a shape that doesn't fit.
    """
    _check(scores_QV, video_of_query)
    counts = [_best_own(scores_QV[:, v], own) for v, own in _captions(video_of_query)]
    better, ties, own = np.array(counts, dtype=np.int64).reshape(-1, 3).T
    return Ranks(better, ties, own)


def text_to_video(scores_QV: FloatArray, video_of_query: IntArray) -> RetrievalMetrics:
    """T2V: every query ranks the V videos."""
    return RetrievalMetrics.of(t2v_ranks(scores_QV, video_of_query), scores_QV.shape[1])


def video_to_text(scores_QV: FloatArray, video_of_query: IntArray) -> RetrievalMetrics:
    """V2T: every captioned video ranks the Q captions; see `v2t_ranks` for the rule."""
    return RetrievalMetrics.of(v2t_ranks(scores_QV, video_of_query), scores_QV.shape[0])


def _captions(video_of_query: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Each captioned video with the indices of its captions."""
    order = np.argsort(video_of_query, kind="stable")
    videos, starts = np.unique(video_of_query[order], return_index=True)
    yield from zip(videos.tolist(), np.split(order, starts)[1:], strict=True)


def _best_own(scores_Q: FloatArray, own: IntArray) -> tuple[int, int, int]:
    best = scores_Q[own].max()
    tied_own = int((scores_Q[own] == best).sum())
    better = int((scores_Q > best).sum())
    ties = int((scores_Q == best).sum()) - tied_own
    return better, ties, tied_own


def _check(scores_QV: FloatArray, video_of_query: IntArray) -> None:
    if scores_QV.ndim != 2 or video_of_query.shape != (len(scores_QV),):
        raise ValueError(
            f"expected scores (Q, V) and an index (Q,), "
            f"got {scores_QV.shape} and {video_of_query.shape}"
        )
    videos = scores_QV.shape[1]
    if len(video_of_query) and not (0 <= video_of_query.min() <= video_of_query.max() < videos):
        raise ValueError(f"a query names a video outside 0..{videos - 1}")
    if np.isnan(scores_QV).any():
        raise ValueError(f"{int(np.isnan(scores_QV).sum())} scores are NaN; a NaN has no rank")
