"""Write a file so that a kill at any instant leaves the old one or the new one, never half."""

import errno
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from m2hf.errors import ResourceError, UsageError

_LONG_S = 86400.0  # of another host's leftover: whether its writer lives can't be seen from here
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def atomic_write(target: Path, verify: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield a path beside `target` to write to; on success it takes `target`'s place.

    `verify` reads the finished file back before it counts. Two writers of one target, on one
    host or on two, don't meet: the last one's file stays. Leftovers of a writer that was killed
    are removed. A full or read-only disk raises ResourceError.
    """
    temporary = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers(target):
            leftover.unlink(missing_ok=True)
        yield temporary
        if verify is not None:
            verify(temporary)
        _fsync(temporary)
        temporary.replace(target)
        _fsync(target.parent)
    except OSError as error:
        raise_if_no_room(target, error)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a folder beside `target` to fill; on success it takes `target`'s place, whole.

    `target` may be an empty folder, else it must not exist: raises UsageError. Leftovers of a
    writer that was killed are removed. A full or read-only disk raises ResourceError.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UsageError(f"{target}: is there already; give a new folder, or remove it")
    temporary = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers(target):
            shutil.rmtree(leftover)
        temporary.mkdir()
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            _fsync(path)
        temporary.replace(target)
        _fsync(target.parent)
    except OSError as error:
        raise_if_no_room(target, error)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def raise_if_no_room(target: Path, error: OSError) -> None:
    """Raise ResourceError where an `error` of writing is the fault of disk or rights."""
    if error.errno in _NO_ROOM or "No space left" in str(error):
        reason = os.strerror(error.errno) if error.errno else "No space left on device"
        raise ResourceError(
            f"{target}: can't write ({reason}); free some space or fix the rights, "
            "then run the same command again"
        ) from error


def atomic_text(target: Path, text: str) -> None:
    """Write UTF-8 `text` to `target` atomically."""
    with atomic_write(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _beside(target: Path) -> Path:
    """Where this process writes `target`: pids repeat on other hosts and in other containers."""
    return target.with_name(f".{target.name}.tmp-{quote(socket.gethostname())}-{os.getpid()}")


def _leftovers(target: Path) -> Iterator[Path]:
    """Temporaries of `target` that nobody writes any more.

    A worker that was given up for dead may only have been frozen, and go on.
    """
    here = quote(socket.gethostname())
    prefix = f".{target.name}.tmp-"
    for path in target.parent.glob(f"{_glob_escape(prefix)}*"):
        host, _, pid = path.name.removeprefix(prefix).rpartition("-")
        if host == here:
            gone = not pid.isdigit() or int(pid) == os.getpid() or not _runs(int(pid))
        else:
            gone = not host or _age_s(path) > _LONG_S
        if gone:
            yield path


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # it was finished just now
        return 0.0


def _glob_escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
