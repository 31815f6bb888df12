"""Bootstrap intervals of R@K: how far a number would move with other videos, and, over several
runs, with other seeds. numpy only.

Videos are resampled, each with all its captions (cluster bootstrap): captions of one video are not
independent queries, and resampling them one by one would give an interval that is too narrow. With
one caption per video this is the usual bootstrap over queries. Percentile method; every matrix of
one table gets the same draws, which depend only on the number of videos, so tables are repeatable.

The mean of several runs moves with their seeds, too. Resampling two to five runs gives a variance
that is too small by (n - 1) / n, so the variance of the seeds is added instead: both ends of the
percentile interval move away from the mean by the factor

    t sqrt(v + s^2 / n) / (z sqrt(v))

with v the variance over resamples, s the sample deviation of n runs, z and t the quantiles of the
normal and of Student's distribution, whose degrees of freedom are those of Welch and Satterthwaite,
(v + s^2 / n)^2 / ((s^2 / n)^2 / (n - 1)). `python -m benchmarks.intervals` compares the coverage of
this and of other methods (docs/evaluation.md).

N queries, V videos, R resamples.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import FloatArray, IntArray

RESAMPLES = 1000
LEVEL = 95  # percent

_SEED = 20220816
_TAIL = (100 - LEVEL) / 2  # percent
_ANGLES = 20_001  # of the grid on which Student's distribution is integrated
_NORMAL = 10_000.0  # degrees of freedom from which it counts as the normal distribution


def interval(runs: Sequence[FloatArray], video_N: IntArray) -> tuple[float, float]:
    """Lower and upper end of the mean recall of `runs` in percent.

    runs: for each run each query's probability of a hit (N,), 0 to 1; video_N: its video.
    """
    return _ends(runs, video_N, 0.0)


def paired_interval(
    runs: Sequence[FloatArray], others: Sequence[FloatArray], video_N: IntArray
) -> tuple[float, float]:
    """As `interval`, of the mean recall of `runs` minus that of `others`, run by run and on the
    same videos: what both find, or neither, is no noise."""
    return _ends([a - b for a, b in zip(runs, others, strict=True)], video_N, -100.0)


def _ends(runs: Sequence[FloatArray], video_N: IntArray, least: float) -> tuple[float, float]:
    resampled_R = resampled(np.mean(runs, axis=0), video_N)
    low, high = np.percentile(resampled_R, [_TAIL, 100 - _TAIL])
    if len(runs) == 1:
        return float(low), float(high)
    recalls = [100 * float(np.mean(run)) for run in runs]
    return widened((float(low), float(high)), float(np.var(resampled_R)), recalls, least)


def resampled(hit_share_N: FloatArray, video_N: IntArray) -> FloatArray:
    """(R,) the recall in percent of each resample of the videos."""
    videos, group_N = np.unique(video_N, return_inverse=True)
    sums_V2 = np.stack([np.bincount(group_N, hit_share_N), np.bincount(group_N)], axis=1)
    draws_RV = _draws(len(videos))
    parts = [part_RV.astype(np.float64) @ sums_V2 for part_RV in np.array_split(draws_RV, 10)]
    hits_R, queries_R = np.concatenate(parts).T
    recall_R: FloatArray = 100 * hits_R / queries_R
    return recall_R


def widened(
    ends: tuple[float, float], variance: float, recalls: Sequence[float], least: float = 0.0
) -> tuple[float, float]:
    """The interval `ends` of the mean of `recalls`, whose variance over resampled videos is
    `variance`, with the variance of the seeds added; in percent, within `least` to 100."""
    mean, of_seeds = float(np.mean(recalls)), float(np.var(recalls, ddof=1)) / len(recalls)
    if of_seeds == 0:
        return ends
    both = variance + of_seeds
    half = student_quantile(both**2 / (of_seeds**2 / (len(recalls) - 1))) * both**0.5
    if variance == 0:
        low, high = mean - half, mean + half
    else:
        factor = half / (student_quantile(np.inf) * variance**0.5)
        low, high = (mean + factor * (end - mean) for end in ends)
    return max(low, least), min(high, 100.0)


@lru_cache(maxsize=1024)
def student_quantile(freedom: float) -> float:
    """The quantile of Student's distribution that LEVEL of it lie within; infinity: the normal's.

    With x = sqrt(freedom) tan(angle) its density is proportional to cos(angle)^(freedom - 1).
    """
    freedom = min(freedom, _NORMAL)
    angles = np.linspace(-np.pi / 2, np.pi / 2, _ANGLES)
    density = np.cos(angles).clip(0) ** (freedom - 1)
    mass = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    angle = np.interp(1 - _TAIL / 100, mass / mass[-1], angles)
    return float(np.sqrt(freedom) * np.tan(angle))


@lru_cache(maxsize=2)
def _draws(videos: int) -> NDArray[np.uint8]:
    """(R, V) how often each video is drawn; rarely more than ten times, so a byte is enough."""
    generator = np.random.default_rng([_SEED, videos])
    draws_RV = np.empty((RESAMPLES, videos), dtype=np.uint8)
    for resample in range(RESAMPLES):
        picked = generator.integers(0, videos, videos)
        draws_RV[resample] = np.bincount(picked, minlength=videos)
    return draws_RV
