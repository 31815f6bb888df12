"""Single changed bytes in a file of m2hf: which of them its readers accept in silence.

    missed = missed_flips(path, read, count=500, seed=0, scratch=folder / "flipped")

`read` raises an M2hfError for a damaged file. What it accepts, and what ends in another exception,
is missed; where nothing is, the list is empty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2hf.errors import M2hfError


@dataclass(frozen=True)
class Flip:
    """A byte that was changed, by XOR with `mask` (1 to 255), and what a reader made of it."""

    offset: int
    mask: int
    outcome: str = ""


def flips(size: int, count: int, seed: int) -> list[Flip]:
    """`count` changes of a byte in a file of `size` bytes; equal arguments give equal changes."""
    rng = np.random.default_rng(seed)
    return [Flip(int(rng.integers(size)), int(rng.integers(1, 256))) for _ in range(count)]


def missed_flips(
    path: Path, read: Callable[[Path], object], count: int, seed: int, scratch: Path
) -> list[Flip]:
    """Change one byte of the file at a time and read it; returns the changes that `read` missed.

    scratch: the path of the changed copies, with the suffix that `read` expects.
    """
    data = path.read_bytes()
    missed = []
    for flip in flips(len(data), count, seed):
        changed = bytearray(data)
        changed[flip.offset] ^= flip.mask
        scratch.write_bytes(changed)
        try:
            read(scratch)
        except M2hfError as error:
            if "\n" not in str(error):
                continue
            outcome = "a message of several lines"
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            outcome = f"{type(error).__name__}: {error}"
        else:
            outcome = "accepted"
        missed.append(Flip(flip.offset, flip.mask, outcome))
    scratch.unlink(missing_ok=True)
    return missed
