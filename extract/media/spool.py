"""Buffers decoded data: in memory up to a bound, beyond it in temporary files.

Three hours of frames are tens of gigabytes. The files have no name, so that none is left behind
by a process that dies, and are memory-mapped, so that only the parts that are read take memory.
"""

import io
import mmap
import tempfile
import threading
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import MediaError, ResourceError
from m2hf.shortage import UNWRITABLE, resource_error

Bytes = NDArray[np.uint8]


class Spool:
    """Collects the bytes of several outputs, by number; threads may append at the same time.

    memory_mb: most data in memory, of all outputs together (growing buffers over-allocate, by an
    eighth); total_mb: most data in all; folder: for temporary files, "" is the system's (TMPDIR).
    """

    def __init__(self, memory_mb: int, total_mb: int, folder: str = "") -> None:
        self._memory_mb, self._total_mb = memory_mb, total_mb
        self._folder = folder or tempfile.gettempdir()
        self._lock = threading.Lock()
        self._buffers: dict[int, bytearray] = {}
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
        """Append to one output.

        Raises MediaError where all outputs exceed `total_mb`, and ResourceError where memory or
        disk space run out.
        """
        with self._lock:
            self._size += len(chunk)
            if self._size > self._total_mb << 20:
                raise MediaError(f"over the limit of {self._total_mb} MB of decoded data")
            try:
                self._put(output, chunk)
            except MemoryError as error:
                raise ResourceError(
                    "out of memory while decoding a clip; lower extract.media.memory_mb"
                ) from error
            except OSError as error:
                raise self._no_room(error) from error

    def take(self, output: int) -> Bytes:
        """(N,) bytes of one output, which is over; those in a file as a read-only memory map."""
        with self._lock:
            file = self._files.get(output)
            if file is None:
                data = np.frombuffer(self._buffers.pop(output, bytearray()), np.uint8)
            else:
                data = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
            return data

    def _put(self, output: int, chunk: bytes) -> None:
        file = self._files.get(output)
        if file is None:
            buffer = self._buffers.setdefault(output, bytearray())
            if sum(map(len, self._buffers.values())) + len(chunk) <= self._memory_mb << 20:
                buffer += chunk
                return
            file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115
            self._files[output] = file
            _write(file, buffer)
            del self._buffers[output]
        _write(file, chunk)

    def _no_room(self, error: OSError) -> ResourceError:
        lacking = None if error.errno in UNWRITABLE else resource_error(error, "decoding a clip")
        return lacking or ResourceError(
            f"{self._folder}: can't store decoded data ({error.strerror}); free some space, or set "
            "extract.media.spool_folder (or TMPDIR) to a larger disk"
        )


def _write(file: io.FileIO, data: bytes | bytearray) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
