"""How much memory a piece of work takes at most, as the kernel sees it (Linux).

Resident memory has two parts. What the process made (RssAnon) is its own until it gives it back.
What is mapped from files, such as features, the kernel takes back whenever it needs room, so it
stays resident only as long as nobody else wants it. Both are reported; the first is held to a
bound.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_EVERY_S = 0.005


@dataclass
class Peak:
    """Most MiB seen: own, and all that was resident; before: own at the start."""

    before: float
    own: float = 0.0
    resident: float = 0.0

    @property
    def extra(self) -> float:
        """MiB beyond what there was at the start."""
        return self.own - self.before


@contextmanager
def watched() -> Iterator[Peak]:
    """Watch what is done inside."""
    peak, done = Peak(_resident()[0]), threading.Event()

    def look() -> None:
        while True:
            own, resident = _resident()
            peak.own, peak.resident = max(peak.own, own), max(peak.resident, resident)
            if done.wait(_EVERY_S):
                return

    watcher = threading.Thread(target=look)
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
