"""How a process keeps the memory that it will need again.

Networks ask for tens of megabytes a layer and give them back. glibc maps such blocks anew each
time, and the kernel fills every page of them with zeros: a third of R(2+1)D's time on a CPU.
"""

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_KEEP = 1 << 30  # bytes of free memory at the heap's end that are not given back


def keep_freed_memory() -> bool:
    """Serve large blocks from one heap that is reused, from now on, where libc is glibc.

    Returns whether it is. Results are the same to the bit. To be called before threads start:
    what other heaps hold stays there.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP), (_M_ARENA_MAX, 1))
    taken = [libc.mallopt(name, value) == 1 for name, value in settings]
    return all(taken)
