"""Exponents of growth: the slope, on logarithmic axes, between the two largest sizes."""

import math
from collections.abc import Mapping

from benchmarks.scale.operations import Usage

MOST = 1.15
LEAST_CPU_S, LEAST_MB = 2.0, 512.0  # below, the start of Python and its libraries decides


def exponent(smaller: float, larger: float, ratio: float) -> float:
    """x of larger = smaller * ratio ** x."""
    return math.log(larger / smaller) / math.log(ratio)


def exponents(found: Mapping[int, Usage]) -> tuple[float, float] | None:
    """Of CPU seconds and of memory, from the usage at each size; None for a single size."""
    sizes = sorted(found)[-2:]
    if len(sizes) < 2:
        return None
    (small, large), ratio = (found[size] for size in sizes), sizes[1] / sizes[0]
    return (
        exponent(small.cpu_s, large.cpu_s, ratio),
        exponent(small.peak_mb, large.peak_mb, ratio),
    )


def too_steep(found: Mapping[int, Usage]) -> bool:
    """Whether an exponent is above `MOST`, where the larger size takes enough to tell."""
    slopes = exponents(found)
    if slopes is None:
        return False
    largest = found[max(found)]
    return (largest.cpu_s >= LEAST_CPU_S and slopes[0] > MOST) or (
        largest.peak_mb >= LEAST_MB and slopes[1] > MOST
    )
