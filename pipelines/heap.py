"""Configure glibc's allocator to reuse freed memory instead of returning it to the kernel.

Networks allocate tens of megabytes per layer and free them. By default glibc maps such blocks anew
each time, and the kernel fills every page with zeros: a third of R(2+1)D's time on a CPU.
"""

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_KEEP = 1 << 30  # bytes of free memory at the heap's end that are not returned to the kernel


def keep_freed_memory() -> bool:
    """From now on, serve large blocks from one heap that is reused; only where libc is glibc.

    Returns whether it took effect. Results don't change by a bit. Call it before threads start:
    memory in heaps of other threads stays there.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP), (_M_ARENA_MAX, 1))
    accepted = [libc.mallopt(name, value) == 1 for name, value in settings]
    return all(accepted)
