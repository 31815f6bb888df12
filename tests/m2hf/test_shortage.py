"""What the machine lacks is told from what is wrong with a clip, whatever class the error has."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from m2hf.errors import ResourceError
from m2hf.shortage import resource_error, resource_error_in


class OutOfMemoryError(RuntimeError):
    """Named as the one of torch."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "out of memory"),
        (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "no further process"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many open files"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE)), "too many open files"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "read-only"),
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), "mount the share again"),
        (RuntimeError("can't start new thread"), "no further process"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "device memory"),
        (RuntimeError("CUDA error: out of memory"), "device memory"),
        (RuntimeError("CUDA failed with error out of memory"), "device memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "device memory"),
        (RuntimeError("std::bad_alloc"), "out of memory"),
    ],
    ids=str,
)
def test_a_shortage_is_a_resource_error_of_one_line(error: Exception, said: str) -> None:
    found = resource_error(error, "clip")
    assert isinstance(found, ResourceError)
    assert str(found).startswith("clip: ")
    assert said in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("moov atom not found"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.EIO, os.strerror(errno.EIO)),  # a bad sector of one file
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    ],
    ids=str,
)
def test_other_errors_are_none(error: Exception) -> None:
    assert resource_error(error, "clip") is None


def test_a_line_of_ffmpeg_is_recognised() -> None:
    line = "[vf#0:0 @ 0x55] Error while filtering: Cannot allocate memory"
    assert "out of memory" in str(resource_error_in(line, "clip"))
    assert resource_error_in("Invalid data found when processing input", "clip") is None


@contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    before, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, hard))


def open_files() -> None:
    with ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(Path(os.devnull).open("rb"))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(bytes(600))


def test_errors_of_real_limits_are_recognised(tmp_path: Path) -> None:
    """Each limit in turn, and the errors of Python, numpy, torch and the system for it."""
    size = 1 << 46  # more than any machine has
    tries: list[tuple[Callable[[], object], str]] = [
        (lambda: bytearray(size), "out of memory"),
        (lambda: np.zeros(size, np.uint8), "out of memory"),
        (lambda: torch.zeros(size, dtype=torch.uint8), "out of memory"),
    ]
    for work, said in tries:
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            work()
        assert said in str(resource_error(caught.value, "x"))
    handles = len(list(Path("/proc/self/fd").iterdir()))
    with limited(resource.RLIMIT_NOFILE, handles + 4), pytest.raises(OSError) as too_many:  # noqa: PT011
        open_files()
    assert "too many open files" in str(resource_error(too_many.value, "x"))
    with limited(resource.RLIMIT_FSIZE, 1000), pytest.raises(OSError) as too_large:  # noqa: PT011
        fill(tmp_path / "file")
    assert "ulimit -f" in str(resource_error(too_large.value, "x"))


def test_a_process_without_memory_is_recognised() -> None:
    """In a child process: threads and processes that can't be started any more."""
    code = """
import resource, threading
from m2hf.shortage import resource_error
threading.stack_size(1 << 30)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 26), -1))
try:
    threading.Thread(target=print).start()
except RuntimeError as error:
    print(resource_error(error, "x"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("x: the system starts no further process or thread")
