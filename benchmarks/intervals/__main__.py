"""`python -m benchmarks.intervals`: how often the 95 % interval of R@1 holds the true value.

Simulated runs on V videos with one caption each. A run's query is a hit if the difficulty of its
video, plus the effect of the run's seed, plus noise of its own, is above a limit; all are normal,
and the seeds' effect has the deviation in R@1 that is asked for. The true value is the expected R@1
over videos and seeds, which is known. Four methods, each with the resamples of m2hf:

    videos      resample the videos of the mean of the runs
    both        resample the videos, and in each resample the runs (hierarchical bootstrap)
    normal      videos, with the variance of the seeds added; normal quantile
    m2hf        the same with Student's quantile: what m2hf prints (m2hf.fuse.tables.bootstrap)
"""

import argparse
import sys
from collections.abc import Sequence
from math import erf, sqrt

import numpy as np

from m2hf.array_types import FloatArray
from m2hf.fuse.tables.bootstrap import LEVEL, interval, resampled

SEEDS, DEVIATIONS = (1, 2, 3, 4, 5), (0.0, 1.0, 2.0, 3.0)
METHODS = ("videos", "both", "normal", "m2hf")

_LIMIT = 0.1  # R@1 is about 46 %, near the middle, where intervals are widest
_OWN = 0.25  # share of the variance that is a run's own noise
_SLOPE = 0.39  # of R@1 by the limit, in shares


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table of coverage in percent and of mean half widths in points."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intervals", description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="simulated tables for each line")
    parser.add_argument("--videos", type=int, default=1000)
    given = parser.parse_args(arguments)
    print(f"| runs | seeds' deviation | {' | '.join(METHODS)} |")
    print(f"|---:|---:|{'---:|' * len(METHODS)}")
    for runs in SEEDS:
        for deviation in DEVIATIONS:
            cells = [f"{c:.1f} (±{w:.1f})" for c, w in coverage(runs, deviation, given).values()]
            print(f"| {runs} | {deviation:.0f} | {' | '.join(cells)} |", flush=True)
    return 0


def coverage(
    runs: int, deviation: float, given: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """By method, the coverage in percent and the mean half width."""
    generator = np.random.default_rng([20261125, runs, round(10 * deviation)])
    of_seed = deviation / 100 / _SLOPE
    truth = 50 * (1 + erf(-_LIMIT / sqrt(1 + of_seed**2) / sqrt(2)))
    hits = dict.fromkeys(METHODS, 0)
    widths = dict.fromkeys(METHODS, 0.0)
    for _ in range(given.trials):
        shares = simulated(generator, runs, given.videos, of_seed)
        for method, (low, high) in intervals(generator, shares).items():
            hits[method] += low <= truth <= high
            widths[method] += (high - low) / 2
    return {name: (100 * hits[name] / given.trials, widths[name] / given.trials) for name in hits}


def simulated(
    generator: np.random.Generator, runs: int, videos: int, of_seed: float
) -> list[FloatArray]:
    """For each run which queries hit, as 0 or 1."""
    difficulty_V = sqrt(1 - _OWN) * generator.normal(size=videos)
    return [
        (
            difficulty_V + of_seed * generator.normal() + sqrt(_OWN) * generator.normal(size=videos)
            > _LIMIT
        ).astype(np.float64)
        for _ in range(runs)
    ]


def intervals(
    generator: np.random.Generator, shares: Sequence[FloatArray]
) -> dict[str, tuple[float, float]]:
    """The interval of each method."""
    runs, videos = len(shares), np.arange(len(shares[0]))
    each = np.stack([resampled(share, videos) for share in shares], axis=1)
    mean_R = each.mean(axis=1)
    picked = generator.integers(0, runs, (len(each), runs))
    low, high = percentiles(mean_R)
    mean = 100 * float(np.mean(shares))
    of_seeds = np.var([100 * s.mean() for s in shares], ddof=1) / runs if runs > 1 else 0.0
    factor = sqrt((mean_R.var() + of_seeds) / mean_R.var())
    return {
        "videos": (low, high),
        "both": percentiles(np.take_along_axis(each, picked, axis=1).mean(axis=1)),
        "normal": (mean + factor * (low - mean), mean + factor * (high - mean)),
        "m2hf": interval(shares, videos),
    }


def percentiles(resampled_R: FloatArray) -> tuple[float, float]:
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(resampled_R, [tail, 100 - tail])
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
