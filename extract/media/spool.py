"""What a clip decodes to, as it comes: in memory up to a bound, beyond it in a temporary file.

Three hours of pictures are tens of gigabytes. Files have no name, so that nothing is left of a
process that dies, and are mapped, so that a reader needs the memory of what it looks at.
"""

import io
import mmap
import tempfile
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import MediaError, ResourceError

Bytes = NDArray[np.uint8]


class Spool:
    """Outputs by number, which threads append to; together at most `memory_mb` in memory (and an
    eighth more, by which a growing array is ahead of itself), and `total_mb` in all.

    folder: for temporary files; "" is the system's (TMPDIR).
    """

    def __init__(self, memory_mb: int, total_mb: int, folder: str = "") -> None:
        self._memory_mb, self._total_mb = memory_mb, total_mb
        self._folder = folder or tempfile.gettempdir()
        self._lock = threading.Lock()
        self._held: dict[int, bytearray] = {}
        self._files: dict[int, io.FileIO] = {}
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()

    def append(self, output: int, chunk: bytes) -> None:
        """Add to one output.

        Raises MediaError where all of them are more than `total_mb`, and ResourceError where
        memory or the temporary folder hold no more.
        """
        with self._lock:
            self._size += len(chunk)
            if self._size > self._total_mb << 20:
                raise MediaError(f"over the limit of {self._total_mb} MB of decoded data")
            try:
                self._put(output, chunk)
            except MemoryError as error:
                raise ResourceError(
                    "out of memory while a clip was decoded; lower extract.media.memory_mb"
                ) from error
            except OSError as error:
                raise ResourceError(
                    f"{self._folder}: can't hold what is decoded ({error.strerror}); free some "
                    "space, or set extract.media.spool_folder (or TMPDIR) to a larger disk"
                ) from error

    def finish(self) -> Mapping[int, Bytes]:
        """(N,) bytes of each output that has any; those in a file are a read-only map of it."""
        mapped = {
            output: mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            for output, file in self._files.items()
        }
        return {n: np.frombuffer(data, np.uint8) for n, data in (self._held | mapped).items()}

    def _put(self, output: int, chunk: bytes) -> None:
        file = self._files.get(output)
        if file is None:
            held = self._held.setdefault(output, bytearray())
            if sum(map(len, self._held.values())) + len(chunk) <= self._memory_mb << 20:
                held += chunk
                return
            file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115
            self._files[output] = file
            _write(file, held)
            del self._held[output]
        _write(file, chunk)


def _write(file: io.FileIO, data: bytes | bytearray) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
