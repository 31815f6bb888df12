"""Peak memory of a piece of work, from the kernel's counters (Linux).

Resident memory has two parts. Anonymous memory (RssAnon) belongs to the process until it is freed.
Pages mapped from files, such as features, can be reclaimed by the kernel at any time. Both are
reported; the limit applies to the first.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_EVERY_S = 0.005


@dataclass
class Peak:
    """Peak MiB: own (anonymous), and resident (all); before: own at the start."""

    before: float
    own: float = 0.0
    resident: float = 0.0

    @property
    def extra(self) -> float:
        """MiB beyond the start."""
        return self.own - self.before


@contextmanager
def watched() -> Iterator[Peak]:
    """Sample the memory of this process during the block."""
    peak, done = Peak(_resident()[0]), threading.Event()

    def sample() -> None:
        while True:
            own, resident = _resident()
            peak.own, peak.resident = max(peak.own, own), max(peak.resident, resident)
            if done.wait(_EVERY_S):
                return

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _resident() -> tuple[float, float]:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)
           if name in ("RssAnon", "VmRSS")}  # fmt: skip
    return kib["RssAnon"] / 1024, kib["VmRSS"] / 1024
