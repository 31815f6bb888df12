"""Windows of one length over a clip that may be of any length."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Windows:
    """Where windows of `length` steps begin; each overlaps the next by `overlap` of its length.

    The last one ends with the clip, and so overlaps more. A clip shorter than `length` has one
    window, which its reader pads.
    """

    length: int
    overlap: float

    def starts(self, total: int) -> list[int]:
        """First steps of the windows that cover steps 0 to `total`, in order."""
        hop = max(1, round(self.length * (1.0 - self.overlap)))
        last = max(0, total - self.length)
        return [*range(0, last, hop), last]
