"""Atomic writes: a kill at any instant leaves the old file or the new one, never a partial one."""

import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from m2hf.errors import ResourceError, UsageError
from m2hf.shortage import UNWRITABLE

# Age at which a temporary of another host counts as abandoned: its process can't be looked up.
_STALE_S = 86400.0
_HDF5_ERRNO = re.compile(r"errno = (\d+)")


@contextmanager
def atomic_write(target: Path, verify: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield a temporary path in `target`'s folder to write to; on success it replaces `target`.

    The file gets the mode that the umask gives, whatever mode its writer creates files with.
    `verify` reads the finished file back before it replaces the target. Two writers of one target,
    on one host or on two, don't disturb each other: the last one's file stays. Leftovers of a
    writer that was killed are removed. A full or read-only disk raises ResourceError.
    """
    temporary = _temporary_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers(target):
            leftover.unlink(missing_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        if temporary.stat().st_mode != mode:  # safetensors makes files that only the owner reads
            temporary.chmod(stat.S_IMODE(mode))
        if verify is not None:
            verify(temporary)
        _fsync(temporary)
        temporary.replace(target)
        _fsync(target.parent)
    except (OSError, RuntimeError) as error:  # HDF5 raises both
        raise_if_unwritable(target, error)
        raise
    finally:
        if temporary.exists():  # a read-only file system refuses to remove even what is not there
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `target` to fill; on success it is renamed to `target`.

    `target` may be an empty folder, else it must not exist: raises UsageError. Leftovers of a
    writer that was killed are removed. A full or read-only disk raises ResourceError.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UsageError(f"{target}: already exists; give a new folder, or remove it")
    temporary = _temporary_path(target)
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
        raise_if_unwritable(target, error)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def raise_if_unwritable(target: Path, error: Exception) -> None:
    """Raise ResourceError where writing failed because of the disk or of file permissions."""
    code = error.errno if isinstance(error, OSError) else None
    if code is None:
        code = _code_in(str(error))
    if code in UNWRITABLE:
        raise ResourceError(
            f"{target}: can't write ({os.strerror(code)}); free some space or fix the permissions, "
            "then run the same command again"
        ) from error


def _code_in(message: str) -> int | None:
    """The error number that a library's message names, by its digits or in words."""
    if found := _HDF5_ERRNO.search(message):
        return int(found[1])
    return next((code for code in sorted(UNWRITABLE) if os.strerror(code) in message), None)


def raise_if_unreadable(path: Path, error: Exception) -> None:
    """Raise UsageError where reading `path` failed because of file permissions, not its content."""
    denied = isinstance(error, PermissionError)
    if not denied:  # some libraries raise an error of their own class, without the cause
        try:
            with path.open("rb"):
                pass
        except OSError as cause:
            denied = isinstance(cause, PermissionError)
    if denied:
        raise UsageError(
            f"permission denied: {getattr(error, 'filename', None) or path}: this user may not "
            "read it; give it and its folder read permission, or run as another user"
        ) from error


def atomic_text(target: Path, text: str) -> None:
    """Write UTF-8 `text` to `target` atomically."""
    with atomic_write(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _temporary_path(target: Path) -> Path:
    """The temporary path of this process. Its name holds the host name in addition to the pid,
    since pids repeat on other hosts and in other containers."""
    return target.with_name(f".{target.name}.tmp-{quote(socket.gethostname())}-{os.getpid()}")


def _leftovers(target: Path) -> Iterator[Path]:
    """Temporaries of `target` whose writer is gone.

    One whose process still runs is kept: a worker that was taken for dead may only have been
    frozen, and resume.
    """
    here = quote(socket.gethostname())
    prefix = f".{target.name}.tmp-"
    for path in target.parent.glob(f"{_glob_escape(prefix)}*"):
        host, _, pid = path.name.removeprefix(prefix).rpartition("-")
        if host == here:
            gone = not pid.isdigit() or int(pid) == os.getpid() or not _runs(int(pid))
        else:
            gone = not host or _age_s(path) > _STALE_S
        if gone:
            yield path


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        pass
    return True


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # its writer has just finished
        return 0.0


def _glob_escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
