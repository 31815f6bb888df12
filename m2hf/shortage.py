"""Tells what the machine lacks from what is wrong with one clip.

Memory, open files, threads, disk space and network shares run out or go away for every clip alike.
Libraries report that by errors of many classes; here they become one ResourceError.
"""

import errno
import os

from m2hf.errors import ResourceError, first_line

UNWRITABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM,
}  # fmt: skip

_MEMORY = "out of memory; use fewer workers or smaller batches, or free some memory"
_DEVICE = "out of device memory; use fewer workers or smaller batches"
_FILES = "too many open files; use fewer workers, or raise the limit (ulimit -n)"
_PROCESSES = (
    "the system starts no further process or thread; use fewer workers, or raise the limits on "
    "processes and memory (ulimit -u, ulimit -v)"
)
_DISK = "the disk is full; free some space"
_FILE_SIZE = "a file may not grow further; raise the limit on file sizes (ulimit -f)"
_READ_ONLY = "the file system is read-only; mount it for writing"
_SHARE = "the file system can't be reached; mount the share again"

_BY_ERRNO = {
    errno.ENOMEM: _MEMORY,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EAGAIN: _PROCESSES,
    errno.ENOSPC: _DISK,
    errno.EDQUOT: _DISK,
    errno.EFBIG: _FILE_SIZE,
    errno.EROFS: _READ_ONLY,
    errno.ESTALE: _SHARE,
    errno.ENOTCONN: _SHARE,
    errno.EHOSTDOWN: _SHARE,
    errno.EHOSTUNREACH: _SHARE,
    errno.ETIMEDOUT: _SHARE,
}
# What messages contain, in lower case; the first match counts.
_BY_TEXT = (
    ("cuda_error_out_of_memory", _DEVICE),
    ("alloc_failed", _DEVICE),  # of cuBLAS and cuDNN
    ("cuda error: out of memory", _DEVICE),  # of torch
    ("cuda failed with error out of memory", _DEVICE),  # of CTranslate2
    ("backend out of memory", _DEVICE),  # of torch on MPS
    ("can't allocate memory", _MEMORY),  # of torch on a CPU
    ("cannot allocate memory", _MEMORY),  # of the system, and of ffmpeg
    ("not enough memory", _MEMORY),
    ("insufficient memory", _MEMORY),  # of OpenCV
    ("bad_alloc", _MEMORY),
    ("failed to map segment", _MEMORY),  # of a library that is loaded
    ("can't start new thread", _PROCESSES),
    ("resource temporarily unavailable", _PROCESSES),
    ("too many open files", _FILES),
    ("no space left on device", _DISK),
    ("disk quota exceeded", _DISK),
    ("stale file handle", _SHARE),
    ("transport endpoint is not connected", _SHARE),
)


def resource_error(error: Exception, where: str) -> ResourceError | None:
    """The ResourceError for an exception that the machine is to blame for; None for any other.

    where: what was at work, or a path; the message starts with it.
    """
    if isinstance(error, ResourceError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError(f"{where}: {_MEMORY}")
    if type(error).__name__ == "OutOfMemoryError":  # torch's, whichever device
        return ResourceError(f"{where}: {_DEVICE} ({first_line(error)})")
    if isinstance(error, OSError) and error.errno:
        advice = _BY_ERRNO.get(error.errno)
        reason = os.strerror(error.errno)
        return ResourceError(f"{where}: {advice} ({reason})") if advice else None
    return resource_error_in(str(error), where)


def resource_error_in(text: str, where: str) -> ResourceError | None:
    """The same for a message, such as a line of ffmpeg's log."""
    low = text.lower()
    for part, advice in _BY_TEXT:
        if part in low:
            return ResourceError(f"{where}: {advice}")
    return None
