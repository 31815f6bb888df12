"""One kind of fault, and what it did."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """tried: how often the fault was caused; lost: results that are gone or differ, or damage that
    was missed; outcome: in words, with the numbers that matter."""

    tried: int
    lost: int
    outcome: str


@dataclass(frozen=True)
class Fault:
    """cause: (an empty folder, how often, seed) -> Result; count: the default of how often."""

    name: str
    what: str
    count: int
    cause: Callable[[Path, int, int], Result]


def listed(counts: dict[str, int]) -> str:
    """`3 a, 1 b` for counts by name, those of 0 left out."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
