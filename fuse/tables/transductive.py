"""Scores that depend on several queries: dual softmax and querybank normalisation.

Both use queries jointly, which a search engine that answers one query can't, so tables put them in
a block of their own and flag them. Each is a matrix computed a few rows at a time from another (see
`m2hf.fuse.scores.metrics.ScoreMatrix`), in double precision.

Dual softmax (CAMoE, Cheng et al., 2021, arXiv 2109.04290) multiplies the scores with their
softmax over the other side: for T2V over the queries of a video (a column), for V2T over the
videos of a query (a row). It is meant for scores that are positive where it matters.

Querybank normalisation (Bogolin et al., 2022, arXiv 2112.12777), dynamic inverted softmax: a
query whose best video is the best of any bank query has its scores divided by what the bank gives
each video, exp(scale s) / sum_b exp(scale s_b); other queries keep theirs. The bank holds training
queries. T2V only, and never fused.

Q queries, V videos, B queries of a bank.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from m2hf.array_types import BoolArray, FloatArray
from m2hf.fuse.scores.metrics import ScoreMatrix, row_chunks

QUERYBANK_SCALE = 20.0  # the paper's, for cosine scores


@dataclass(frozen=True, eq=False)
class TransformedScores(ABC):
    """`scores` (Q, V), transformed at `scale` when rows are read."""

    scores: ScoreMatrix
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, V)."""
        queries, videos = self.scores.shape
        return queries, videos

    def __getitem__(self, rows: slice, /) -> FloatArray:
        return self._transform(self.scores[rows].astype(np.float64))

    @abstractmethod
    def _transform(self, part_QV: FloatArray) -> FloatArray:
        """Transform some rows, float64, which may be overwritten."""


@dataclass(frozen=True, eq=False)
class DualSoftmax(TransformedScores):
    """Scores times their softmax; `normaliser`: per video the logarithm of the sum over queries,
    None where the softmax runs over the videos of each row."""

    normaliser: FloatArray | None

    @classmethod
    def text_to_video(cls, scores_QV: ScoreMatrix, scale: float) -> "DualSoftmax":
        """Softmax over queries, whose normaliser takes one pass over the scores."""
        return cls(scores_QV, scale, _log_sum_of_columns(scores_QV, scale))

    @classmethod
    def video_to_text(cls, scores_QV: ScoreMatrix, scale: float) -> "DualSoftmax":
        """Softmax over videos."""
        return cls(scores_QV, scale, None)

    def _transform(self, part_QV: FloatArray) -> FloatArray:
        share_QV = self.scale * part_QV
        if self.normaliser is None:
            share_QV -= share_QV.max(axis=1, keepdims=True)
            np.exp(share_QV, out=share_QV)
            share_QV /= share_QV.sum(axis=1, keepdims=True)
        else:
            share_QV -= self.normaliser
            np.exp(share_QV, out=share_QV)
        product: FloatArray = np.multiply(part_QV, share_QV, out=share_QV)
        return product


@dataclass(frozen=True, eq=False)
class Querybank(TransformedScores):
    """Scores normalised by a bank: `normaliser` (V,) the logarithm of the bank's sum, `active` (V,)
    whether a video is the best of any bank query, `known` (V,) whether the video has features. A
    video without features has low scores in the bank too, so that normalisation would raise it;
    it is ranked last instead. A query with equal scores for all videos keeps them."""

    normaliser: FloatArray
    active: BoolArray
    known: BoolArray

    @classmethod
    def of(
        cls,
        scores_QV: ScoreMatrix,
        bank_BV: ScoreMatrix,
        scale: float,
        covered_V: BoolArray | None = None,
    ) -> "Querybank":
        """covered_V: default all. Raises ValueError for a bank without queries, or with another
        number of videos than the scores."""
        if bank_BV.shape[0] == 0 or bank_BV.shape[1:] != scores_QV.shape[1:]:
            raise ValueError(
                f"a bank of shape {tuple(bank_BV.shape)} for scores of shape "
                f"{tuple(scores_QV.shape)}; expected some rows and {scores_QV.shape[1]} columns"
            )
        active_V = np.zeros(scores_QV.shape[1], dtype=np.bool_)
        for _, rows_BV in row_chunks(bank_BV):
            active_V[rows_BV.argmax(axis=1)] = True
        covered_V = np.ones_like(active_V) if covered_V is None else covered_V
        return cls(scores_QV, scale, _log_sum_of_columns(bank_BV, scale), active_V, covered_V)

    def _transform(self, part_QV: FloatArray) -> FloatArray:
        varies_Q = part_QV.min(axis=1) < part_QV.max(axis=1)
        normalised_Q = varies_Q & self.active[part_QV.argmax(axis=1)]
        # The logarithm has the order of the quotient, and neither over- nor underflows.
        logarithm_QV = self.scale * part_QV - self.normaliser
        logarithm_QV[:, ~self.known] = -np.inf
        whole: FloatArray = np.where(normalised_Q[:, None], logarithm_QV, part_QV)
        return whole


def _log_sum_of_columns(scores_QV: ScoreMatrix, scale: float) -> FloatArray:
    """(V,) log sum_q exp(scale s_qv), a streaming log-sum-exp with a running maximum."""
    highest_V = np.full(scores_QV.shape[1], -np.inf)
    sum_V = np.zeros(scores_QV.shape[1])
    for _, rows_QV in row_chunks(scores_QV):
        exponent_QV = scale * rows_QV.astype(np.float64)
        new_V = np.maximum(highest_V, exponent_QV.max(axis=0))
        exponent_QV -= new_V
        sum_V *= np.exp(highest_V - new_V)
        sum_V += np.exp(exponent_QV, out=exponent_QV).sum(axis=0)
        highest_V = new_V
    total: FloatArray = highest_V + np.log(sum_V)
    return total
