"""The seal of an HDF5 file: a first line with the sha256 of all other bytes, so that no change of
any byte is believed.

    m2hf-seal <length> [<start>+<length> ...] <sha256>

The numbers are the length of the file, and its ranges that are not covered: data that are mapped
rather than read, and have digests of their own. The line fills the user block, the bytes at the
start of a file that HDF5 leaves to applications.
"""

import hashlib
import mmap
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

SIZE = 512  # bytes of the user block: the smallest that HDF5 has
_MARK = b"m2hf-seal "
_NUMBERS = re.compile(_MARK + rb"\d+((?: \d+\+\d+)*) [0-9a-f]{64}\n *\n")

Range = tuple[int, int]  # first byte, number of bytes


def write_seal(path: Path, apart: Sequence[Range] = ()) -> None:
    """Fill the user block of a finished file; apart: the ranges that the seal doesn't cover."""
    block = _block(path, sorted(span for span in apart if span[1]))
    with path.open("r+b") as file:
        file.write(block)


def check_seal(path: Path) -> bool:
    """Whether the file has a seal; raises ValueError where its bytes differ from what was sealed,
    OSError where it can't be read. Reads all that the seal covers."""
    with path.open("rb") as file:
        block = file.read(SIZE)
    if not block.startswith(_MARK):
        return False
    numbers = _NUMBERS.fullmatch(block)
    if numbers is None:
        raise ValueError("its seal is damaged")
    spans = [span.split(b"+") for span in numbers[1].split()]
    ranges = [(int(start), int(size)) for start, size in spans]
    ends = [SIZE, *(end for start, size in ranges for end in (start, start + size))]
    inside = all(a <= b for a, b in pairwise([*ends, path.stat().st_size]))
    if not inside or _block(path, ranges) != block:
        raise ValueError("its bytes differ from those that were written")
    return True


def _block(path: Path, apart: Sequence[Range]) -> bytes:
    """The user block for the file as it is; apart: sorted, after the user block."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        ranges = "".join(f" {start}+{size}" for start, size in apart)
        head = _MARK + f"{len(data)}{ranges}".encode()
        sha = hashlib.sha256(head)
        with memoryview(data) as view:
            at = SIZE
            for start, size in (*apart, (len(data), 0)):
                with view[at:start] as covered:
                    sha.update(covered)
                at = start + size
        line = head + b" " + sha.hexdigest().encode() + b"\n"
        return line + b" " * (SIZE - 1 - len(line)) + b"\n"
