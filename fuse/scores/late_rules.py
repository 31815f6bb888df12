"""Late-fusion rules: one score from several levels, on plain matrices. numpy only.

A rule reads scores (L, Q, V), validity (L, V) and statistics of train or validation, never
statistics of the scores that it ranks, and never the ground truth. For a video without any valid
level the fused score is undefined.

L levels, Q queries, V videos.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from m2hf.array_types import BoolArray, FloatArray

FLAT = 1e-6  # scores with a smaller standard deviation are constant
START_OFFSET = 2.0  # of `mention`
_RANK_OFFSET = 60.0  # of reciprocal rank fusion (Cormack et al., 2009)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Mean and standard deviation of each level over available videos; alpha > 0 and bias of a
    trained rule, 1 and 0 where none was fitted; offset of `mention` and `mention_mixture`, which
    alone read it; alpha > 0 and offset within the mixture of the latter. All (L,)."""

    centre_L: FloatArray
    deviation_L: FloatArray
    alpha_L: FloatArray
    bias_L: FloatArray
    offset_L: FloatArray
    mixture_alpha_L: FloatArray
    mixture_offset_L: FloatArray

    @classmethod
    def of(cls, scores_LQV: FloatArray, valid_LV: BoolArray) -> Self:
        """Statistics of these scores, with no rule fitted."""
        centre, spread = np.zeros((2, len(scores_LQV)))
        for level, (scores_QV, valid_V) in enumerate(zip(scores_LQV, valid_LV, strict=True)):
            if scores_QV.size and valid_V.any():
                known = scores_QV[:, valid_V].astype(np.float64)
                centre[level], spread[level] = known.mean(), known.std()
        one = np.ones(len(scores_LQV))
        deviation = np.where(spread > FLAT, spread, 1.0)
        return cls(centre, deviation, one, 0 * one, START_OFFSET * one, one, 0 * one)

    def standard(self, scores_LQV: FloatArray) -> FloatArray:
        """(L, Q, V) standard scores."""
        standard: FloatArray = (scores_LQV - self.centre_L[:, None, None]) / self.deviation_L[
            :, None, None
        ]
        return standard


Rule = Callable[[FloatArray, BoolArray, Calibration], FloatArray]


def affine(scores_LQV: FloatArray, valid_LV: BoolArray, by: Calibration) -> FloatArray:
    """sum_l a_l(v) (alpha_l z_l + b_l)."""
    terms_LQV = _line(scores_LQV, by, by.alpha_L, by.bias_L)
    return _sum(terms_LQV, valid_LV)


def mention(scores_LQV: FloatArray, valid_LV: BoolArray, by: Calibration) -> FloatArray:
    """sum_l a_l(v) (softplus(alpha_l z_l + c_l) + b_l): a level speaks where it is sure; the
    default."""
    odds_LQV = _line(scores_LQV, by, by.alpha_L, by.offset_L)
    with np.errstate(invalid="ignore"):  # NaN, of a training that diverged, stays NaN
        terms_LQV = np.logaddexp(0.0, odds_LQV) + by.bias_L[:, None, None]
    return _sum(terms_LQV, valid_LV)


def mention_mixture(scores_LQV: FloatArray, valid_LV: BoolArray, by: Calibration) -> FloatArray:
    """`mention` + log sum_l a_l(v) exp(alpha'_l z_l + c'_l): a level that is sure may also answer
    alone."""
    log_LQV = _line(scores_LQV, by, by.mixture_alpha_L, by.mixture_offset_L)
    with np.errstate(invalid="ignore"):  # as in `mention`
        mixed_QV = np.logaddexp.reduce(np.where(valid_LV[:, None], log_LQV, -np.inf), axis=0)
    known_QV = np.where(valid_LV.any(axis=0), mixed_QV, 0.0)
    fused_QV: FloatArray = mention(scores_LQV, valid_LV, by) + known_QV
    return fused_QV


def z_sum(scores_LQV: FloatArray, valid_LV: BoolArray, by: Calibration) -> FloatArray:
    """Sum of standard scores; a missing level adds 0, which is the mean."""
    return _sum(by.standard(scores_LQV), valid_LV)


def z_mean(scores_LQV: FloatArray, valid_LV: BoolArray, by: Calibration) -> FloatArray:
    """Mean of the standard scores over the levels valid for the video ("renormalised")."""
    mean_QV: FloatArray = z_sum(scores_LQV, valid_LV, by) / np.maximum(valid_LV.sum(axis=0), 1)
    return mean_QV


def plain_sum(scores_LQV: FloatArray, valid_LV: BoolArray, by: Calibration) -> FloatArray:
    """Sum of unstandardised scores."""
    return _sum(scores_LQV, valid_LV)


def reciprocal_rank(scores_LQV: FloatArray, valid_LV: BoolArray, by: Calibration) -> FloatArray:
    """Sum of 1 / (60 + rank) over levels, ranks among the videos that a level is valid for."""
    return _sum(1 / (_RANK_OFFSET + _ranks(scores_LQV, valid_LV)), valid_LV)


def best_rank(scores_LQV: FloatArray, valid_LV: BoolArray, by: Calibration) -> FloatArray:
    """Minus the best rank over levels; label-free."""
    best_QV: FloatArray = -_ranks(scores_LQV, valid_LV).min(axis=0)
    return best_QV


def maximum(scores_LQV: FloatArray, valid_LV: BoolArray, by: Calibration) -> FloatArray:
    """Highest standard score over the levels valid for the video."""
    highest = np.where(valid_LV[:, None], by.standard(scores_LQV), -np.inf).max(axis=0)
    known_QV: FloatArray = np.where(valid_LV.any(axis=0), highest, 0.0)
    return known_QV


LATE_RULES: dict[str, Rule] = {
    "affine": affine,
    "mention": mention,
    "mention_mixture": mention_mixture,
    "z_sum": z_sum,
    "z_mean": z_mean,
    "sum": plain_sum,
    "reciprocal_rank": reciprocal_rank,
    "best_rank": best_rank,
    "max": maximum,
}

TRAINED = ("affine", "mention", "mention_mixture")  # rules whose slopes and biases are fitted


def _line(
    scores_LQV: FloatArray, by: Calibration, slope_L: FloatArray, added_L: FloatArray
) -> FloatArray:
    """(L, Q, V) slope times standard score, and what is added."""
    line: FloatArray = slope_L[:, None, None] * by.standard(scores_LQV) + added_L[:, None, None]
    return line


def _sum(terms_LQV: FloatArray, valid_LV: BoolArray) -> FloatArray:
    total: FloatArray = np.where(valid_LV[:, None], terms_LQV, 0.0).sum(axis=0)
    return total


def _ranks(scores_LQV: FloatArray, valid_LV: BoolArray) -> FloatArray:
    """(L, Q, V) expected rank, 1 + better + ties / 2, among the videos that a level is valid
    for; V + 1 for a video that it is not valid for."""
    ranks = np.full(scores_LQV.shape, scores_LQV.shape[2] + 1.0)
    for level, valid_V in enumerate(valid_LV):
        if valid_V.any():
            ranks[level][:, valid_V] = _row_ranks(scores_LQV[level][:, valid_V])
    return ranks


def _row_ranks(scores_QV: FloatArray) -> FloatArray:
    """(Q, V) expected rank of each score in its row, from the first and last place of its ties."""
    order_QV = np.argsort(scores_QV, axis=1)
    sorted_QV = np.take_along_axis(scores_QV, order_QV, axis=1)
    videos = scores_QV.shape[1]
    place_V = np.arange(videos)
    rises_QV = sorted_QV[:, 1:] != sorted_QV[:, :-1]
    edge_Q1 = np.ones((len(scores_QV), 1), dtype=np.bool_)
    starts_QV = np.concatenate([edge_Q1, rises_QV], axis=1)
    ends_QV = np.concatenate([rises_QV, edge_Q1], axis=1)
    first_QV = np.maximum.accumulate(np.where(starts_QV, place_V, 0), axis=1)
    last_QV = np.where(ends_QV, place_V, videos)[:, ::-1]
    last_QV = np.minimum.accumulate(last_QV, axis=1)[:, ::-1]
    ranks_QV = np.empty(scores_QV.shape)
    np.put_along_axis(ranks_QV, order_QV, videos - (first_QV + last_QV) / 2, axis=1)
    return ranks_QV
