"""The features of one item: values with their times, or no rows and the reason why."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import FloatArray

F = TypeVar("F", np.float32, np.float64)


class Status(StrEnum):
    """OK has rows; EMPTY has none, and a reason. A failure is not Features: see m2hf.ledger."""

    OK = "ok"
    EMPTY = "empty"


@dataclass(frozen=True, eq=False)
class Features:
    """Rows of one item in time order.

    values: (N, D) float, finite; start_s, end_s: (N,) seconds from the start of the clip;
    texts: N strings, for extractors of text or speech; confidence: (N,) in 0..1 of each string.
    reason: why the item is EMPTY, or a remark on OK rows (such as a truncated file).

    Raises ValueError where shapes or times contradict each other.
    """

    values: FloatArray
    start_s: FloatArray
    end_s: FloatArray
    texts: tuple[str, ...] | None = None
    confidence: FloatArray | None = None
    reason: str = ""
    status: Status = field(init=False)

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise ValueError(f"values: expected (N, D), got shape {self.values.shape}")
        n = len(self.values)
        object.__setattr__(self, "status", Status.OK if n else Status.EMPTY)
        for name in ("start_s", "end_s", "confidence"):
            column = getattr(self, name)
            if column is not None and column.shape != (n,):
                raise ValueError(f"{name}: expected ({n},), got shape {column.shape}")
            if column is not None and not np.isfinite(column).all():
                raise ValueError(f"{name}: not finite")
        if not np.isfinite(self.values).all():
            raise ValueError("values: not finite")
        if (self.start_s < 0).any() or (self.end_s < self.start_s).any():
            raise ValueError("times: expected 0 <= start_s <= end_s")
        if self.texts is not None and len(self.texts) != n:
            raise ValueError(f"texts: expected {n} strings, got {len(self.texts)}")
        if not n and not self.reason:
            raise ValueError("EMPTY features need a reason")

    @classmethod
    def empty(cls, reason: str, width: int, texts: bool = False) -> Self:
        """No rows, for `reason`; `width` is D; texts: whether the extractor gives strings."""
        none = np.zeros(0, dtype=np.float64)
        return cls(
            values=np.zeros((0, width), dtype=np.float32),
            start_s=none,
            end_s=none,
            texts=() if texts else None,
            confidence=none if texts else None,
            reason=reason,
        )


def unit_rows(rows: NDArray[F]) -> NDArray[F]:
    """(N, D) rows scaled to norm 1; a row of zeros stays zero."""
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[F] = rows / np.maximum(norm, 1e-12)
    return scaled
