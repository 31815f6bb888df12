"""Advisory file locks, which the system releases when their holder ends."""

import fcntl
from pathlib import Path
from typing import IO, Any

from m2hf.errors import ResourceError


def lock(file: IO[Any], path: Path) -> bool:
    """Lock an open, writable file until it is closed; False where another process holds the lock.

    path: the file's, for the error. Raises ResourceError where its file system has no locks.
    """
    return _locked(file, path, fcntl.LOCK_EX)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of `path`; needs read permission only.

    Raises ResourceError where its file system has no locks.
    """
    with path.open("rb") as file:
        return not _locked(file, path, fcntl.LOCK_SH)


def _locked(file: IO[Any], path: Path, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise ResourceError(
            f"{path.parent}: file locks don't work there ({error.strerror}); mount the share with "
            "locks (NFS: version 4, or lockd and no `nolock`; Lustre: `flock`), or use a folder on "
            "another file system"
        ) from error
    return True
