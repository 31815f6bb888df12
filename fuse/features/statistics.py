"""Mean and standard deviation of each column of a stream, over training items.

N rows of all items, D width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2hf.features import unit_rows
from m2hf.fuse.features.stream import Stream

_CHUNK = 1024  # items at a time
_FLAT = 1e-6  # a column with a smaller deviation is constant


@dataclass(frozen=True, eq=False)
class ColumnStatistics:
    """mean and deviation, (D,) float32. The deviation of a constant column is 1, so that it stays
    constant when it is divided by it."""

    mean_D: NDArray[np.float32]
    deviation_D: NDArray[np.float32]


def column_statistics(stream: Stream, ids: Sequence[str]) -> ColumnStatistics:
    """Over all rows of `ids`; 0 and 1 where there is no row. Raises as `_statistics`."""
    return _statistics(stream.info.width, lambda: _rows(stream, ids))


def sentence_statistics(stream: Stream, ids: Sequence[str]) -> ColumnStatistics:
    """Over the first rows of the captions `ids`, each scaled to norm 1. Raises as `_statistics`."""
    return _statistics(
        stream.info.width, lambda: (unit_rows(rows_ND) for rows_ND in _rows(stream, ids, first=1))
    )


def _statistics(width: int, rows: Callable[[], Iterator[NDArray[np.float64]]]) -> ColumnStatistics:
    """Over the rows (N, D) that each call of `rows` yields; 0 and 1 where there is none.

    Two passes in float64, since the difference of two large sums would lose a small deviation.
    Raises ShardError for a value that is not finite.
    """
    mean_D = np.zeros(width)
    count = 0
    for rows_ND in rows():
        mean_D += rows_ND.sum(axis=0)
        count += len(rows_ND)
    mean_D /= max(1, count)
    variance_D = np.zeros_like(mean_D)
    for rows_ND in rows():
        variance_D += np.square(rows_ND - mean_D).sum(axis=0)
    deviation_D = np.sqrt(variance_D / max(1, count))
    deviation_D[deviation_D < _FLAT] = 1.0
    return ColumnStatistics(mean_D.astype(np.float32), deviation_D.astype(np.float32))


def _rows(
    stream: Stream, ids: Sequence[str], first: int | None = None
) -> Iterator[NDArray[np.float64]]:
    """(N, D) of some items at a time."""
    for start in range(0, len(ids), _CHUNK):
        padded = stream.gather(ids[start : start + _CHUNK], first=first)
        yield padded.values_BND[padded.mask_BN].astype(np.float64)
