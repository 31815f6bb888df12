"""Score matrices that are read again: in memory up to a bound, beyond it in a temporary file.

The file has no name, so that none is left behind by a process that dies, and is memory-mapped, so
that the system may reclaim what is not in use.
"""

import mmap
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2hf.atomic import raise_if_unwritable

_WRITTEN = 1 << 24  # bytes at a time


def matrices(number: int, queries: int, videos: int, most_bytes: int) -> NDArray[np.float32]:
    """(number, queries, videos) to be filled, in memory if they take at most so many bytes.

    Raises ResourceError where the folder of temporary files (TMPDIR) has no room.
    """
    shape = number, queries, videos
    size = 4 * number * queries * videos
    if size <= most_bytes:
        return np.empty(shape, dtype=np.float32)
    with tempfile.TemporaryFile(buffering=0) as file:
        try:
            # Written, not only made longer: to touch a page without room would kill the process.
            for start in range(0, size, _WRITTEN):
                file.write(bytes(min(_WRITTEN, size - start)))
        except OSError as error:
            raise_if_unwritable(Path(tempfile.gettempdir()), error)
            raise
        return np.frombuffer(mmap.mmap(file.fileno(), size), dtype=np.float32).reshape(shape)
