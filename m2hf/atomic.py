"""Write a file so that a kill at any instant leaves the old one or the new one, never half."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from m2hf.errors import ResourceError, UsageError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def atomic_write(target: Path, verify: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield a path beside `target` to write to; on success it takes `target`'s place.

    `verify` reads the finished file back before it counts. One writer a target: leftovers of
    a writer that was killed are removed. A full or read-only disk raises ResourceError.
    """
    prefix = f".{target.name}.tmp-"
    temporary = target.with_name(f"{prefix}{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f"{_glob_escape(prefix)}*"):
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
    prefix = f".{target.name}.tmp-"
    temporary = target.with_name(f"{prefix}{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f"{_glob_escape(prefix)}*"):
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


def _glob_escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
