"""Bootstrap intervals of R@K: how far a number would move with other videos. numpy only.

Videos are resampled, each with all its captions (cluster bootstrap): captions of one video are not
independent queries, and resampling them one by one would give an interval that is too narrow. With
one caption per video this is the usual bootstrap over queries. Percentile method; every matrix of
one table gets the same draws, which depend only on the number of videos, so tables are repeatable.

N queries, V videos, R resamples.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import FloatArray, IntArray

RESAMPLES = 1000
LEVEL = 95  # percent

_SEED = 20220816


def interval(hit_share_N: FloatArray, video_N: IntArray) -> tuple[float, float]:
    """Lower and upper end of a recall in percent, from each query's probability of a hit (0 to 1)
    and its video."""
    videos, group_N = np.unique(video_N, return_inverse=True)
    sums_V2 = np.stack([np.bincount(group_N, hit_share_N), np.bincount(group_N)], axis=1)
    draws_RV = _draws(len(videos))
    parts = [part_RV.astype(np.float64) @ sums_V2 for part_RV in np.array_split(draws_RV, 10)]
    hits_R, queries_R = np.concatenate(parts).T
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(100 * hits_R / queries_R, [tail, 100 - tail])
    return float(low), float(high)


@lru_cache(maxsize=2)
def _draws(videos: int) -> NDArray[np.uint8]:
    """(R, V) how often each video is drawn; rarely more than ten times, so a byte is enough."""
    generator = np.random.default_rng([_SEED, videos])
    draws_RV = np.empty((RESAMPLES, videos), dtype=np.uint8)
    for resample in range(RESAMPLES):
        picked = generator.integers(0, videos, videos)
        draws_RV[resample] = np.bincount(picked, minlength=videos)
    return draws_RV
