"""Windows of a fixed length over a clip of any length."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Windows:
    """Windows of `length` steps, each of which overlaps the next.

    The last one ends with the clip, and so may overlap more. A clip shorter than `length` has one
    window, which the caller pads.
    """

    length: int
    """Steps per window."""

    overlap: float
    """Share of a window that the next one overlaps, in 0..1."""

    def starts(self, total: int) -> list[int]:
        """First steps of the windows that cover `total` steps, in order."""
        hop = max(1, round(self.length * (1.0 - self.overlap)))
        last = max(0, total - self.length)
        return [*range(0, last, hop), last]
