"""Score matrices and querybanks from other tools: `.npy` files, rows are texts, columns are videos.

They are memory-mapped, not loaded, and nothing is unpickled. Every matrix of one set has the same
rows and the same columns.

Q queries (rows), V videos (columns), B queries of a bank.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from m2hf import numpy_files
from m2hf.array_types import FloatArray, IntArray
from m2hf.errors import UsageError
from m2hf.fuse.tables.given.ground_truth import GroundTruth, GroundTruthFiles
from m2hf.keys import sha256_file

_ROWS = 256  # checked at a time


@dataclass(frozen=True, eq=False)
class GivenMatrices:
    """scores: (Q, V) finite, by name; sha256: of each matrix file, and of the queries file if there
    is one."""

    scores: Mapping[str, FloatArray]
    ground_truth: GroundTruth
    sha256: Mapping[str, str]

    @classmethod
    def open(
        cls, paths: Mapping[str, Path], files: GroundTruthFiles, label: str = "matrix"
    ) -> Self:
        """Map and check every matrix; `label` precedes its name in messages.

        Raises UsageError for a file that isn't a matrix of numbers, for shapes that differ, and
        for a score that is not finite, naming row and column.
        """
        scores = {name: _mapped(f"{label} {name}={path}", path) for name, path in paths.items()}
        first = next(iter(scores))
        for name, matrix in scores.items():
            if matrix.shape != scores[first].shape:
                raise UsageError(
                    f"{label} {name}: {matrix.shape[0]} x {matrix.shape[1]}, but {first} is "
                    f"{scores[first].shape[0]} x {scores[first].shape[1]}; "
                    "all matrices must have the same queries and videos"
                )
        truth = files.read((scores[first].shape[0], scores[first].shape[1]))
        for name, matrix in scores.items():
            _check_finite(f"{label} {name}={paths[name]}", matrix, truth)
        named = {f"matrix {name}": path for name, path in paths.items()}
        named |= {"queries": files.queries} if files.queries is not None else {}
        return cls(scores, truth, {name: sha256_file(path) for name, path in named.items()})

    @property
    def video_of_query(self) -> IntArray:
        """(Q,) the column of each row."""
        return self.ground_truth.video_of_query

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, V)."""
        queries, videos = next(iter(self.scores.values())).shape
        return queries, videos


@dataclass(frozen=True, eq=False)
class GivenQuerybanks:
    """Querybanks by the name of their matrix. scores: (B, V), training queries against the same
    videos; sha256: of each file."""

    scores: Mapping[str, FloatArray] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, paths: Mapping[str, Path], matrices: GivenMatrices) -> Self:
        """Map and check every bank; raises UsageError for one without a matrix of its name, and
        for one that doesn't fit it."""
        for name in paths:
            if name not in matrices.scores:
                raise UsageError(
                    f"--qb {name}: no matrix of that name; there are {', '.join(matrices.scores)}"
                )
        videos = matrices.shape[1]
        scores = {n: _mapped_bank(f"--qb {n}={path}", path, videos) for n, path in paths.items()}
        digests = {f"querybank {name}": sha256_file(path) for name, path in paths.items()}
        return cls(scores, digests)


def _mapped_bank(where: str, path: Path, videos: int) -> FloatArray:
    bank_BV = _mapped(where, path)
    if bank_BV.shape[1] != videos:
        raise UsageError(
            f"{where}: {bank_BV.shape[1]} columns; expected training queries against the "
            f"{videos} videos of the matrix"
        )
    without_ids = GroundTruth(np.zeros(len(bank_BV), dtype=np.int64), None, None)
    _check_finite(where, bank_BV, without_ids)
    return bank_BV


def _mapped(where: str, path: Path) -> FloatArray:
    matrix: FloatArray = numpy_files.mapped(path, where)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or matrix.dtype.itemsize > 8:
        raise UsageError(
            f"{where}: {matrix.dtype} of shape {matrix.shape}; "
            "expected numbers in two dimensions, a row for each text and a column for each video"
        )
    if not matrix.size:
        raise UsageError(f"{where}: no scores, its shape is {matrix.shape}")
    return matrix


def _check_finite(where: str, matrix: FloatArray, truth: GroundTruth) -> None:
    for start in range(0, len(matrix), _ROWS):
        finite = np.isfinite(matrix[start : start + _ROWS])
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            value = matrix[start + row, column]
            raise UsageError(
                f"{where}: {truth.cell(start + row, column)} is "
                f"{'NaN' if np.isnan(value) else value}; every score must be finite"
            )
