"""Matrices that others have scored: `.npy` files, rows are texts and columns videos.

They are mapped, not loaded, and nothing is unpickled. Every matrix of one set has the same rows
and the same columns.

Q queries (rows), V videos (columns).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from m2hf.array_types import FloatArray, IntArray
from m2hf.errors import UsageError
from m2hf.fuse.tables.given.ground_truth import AnswerFiles, Answers
from m2hf.keys import sha256_file

_ROWS = 256  # checked at a time


@dataclass(frozen=True, eq=False)
class GivenMatrices:
    """scores: name -> (Q, V) finite; sha256 of each file, and of the file of answers where there
    is one."""

    scores: Mapping[str, FloatArray]
    answers: Answers
    sha256: Mapping[str, str]

    @classmethod
    def open(cls, paths: Mapping[str, Path], files: AnswerFiles, option: str = "--matrix") -> Self:
        """Map and check every matrix; `option` is how messages call where a path was given.

        Raises UsageError for a file that isn't a matrix of numbers, for shapes that differ, and
        for a score that is not finite, naming row and column.
        """
        scores = {name: _mapped(f"{option} {name}={path}", path) for name, path in paths.items()}
        first = next(iter(scores))
        for name, matrix in scores.items():
            if matrix.shape != scores[first].shape:
                raise UsageError(
                    f"{option} {name}: {matrix.shape[0]} x {matrix.shape[1]}, but {first} is "
                    f"{scores[first].shape[0]} x {scores[first].shape[1]}; "
                    "all matrices have the same queries and videos"
                )
        answers = files.read((scores[first].shape[0], scores[first].shape[1]))
        for name, matrix in scores.items():
            _check_finite(f"{option} {name}={paths[name]}", matrix, answers)
        named = {f"matrix {name}": path for name, path in paths.items()}
        named |= {"queries": files.queries} if files.queries is not None else {}
        return cls(scores, answers, {name: sha256_file(path) for name, path in named.items()})

    @property
    def video_of_query(self) -> IntArray:
        """(Q,) the column of each row."""
        return self.answers.video_of_query

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, V)."""
        queries, videos = next(iter(self.scores.values())).shape
        return queries, videos


def open_bank(where: str, path: Path, videos: int) -> FloatArray:
    """A querybank (B, V): training queries against the same videos; raises UsageError."""
    bank_BV = _mapped(where, path)
    if bank_BV.shape[1] != videos:
        raise UsageError(
            f"{where}: {bank_BV.shape[1]} columns; expected training queries against the "
            f"{videos} videos of the matrix"
        )
    everywhere = Answers(np.zeros(len(bank_BV), dtype=np.int64), None, None)
    _check_finite(where, bank_BV, everywhere)
    return bank_BV


def _mapped(where: str, path: Path) -> FloatArray:
    try:
        matrix: FloatArray = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UsageError(
            f"{where}: not a .npy file of numbers ({_line(error)}); write one with numpy.save"
        ) from error
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or matrix.dtype.itemsize > 8:
        raise UsageError(
            f"{where}: {matrix.dtype} of shape {matrix.shape}; "
            "expected numbers in two dimensions, a row for each text and a column for each video"
        )
    if not matrix.size:
        raise UsageError(f"{where}: no scores, its shape is {matrix.shape}")
    return matrix


def _check_finite(where: str, matrix: FloatArray, answers: Answers) -> None:
    for start in range(0, len(matrix), _ROWS):
        finite = np.isfinite(matrix[start : start + _ROWS])
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            value = matrix[start + row, column]
            raise UsageError(
                f"{where}: {answers.place(start + row, column)} is "
                f"{'NaN' if np.isnan(value) else value}, which has no rank; every score is finite"
            )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
