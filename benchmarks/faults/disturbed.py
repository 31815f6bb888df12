"""`python -m benchmarks.faults.disturbed [--kill POINT N] [--clock S] -- VERB`: m2hf, disturbed.

--kill POINT N   SIGKILL at the N-th time (from 1) that the process is at the point
--clock S        the clock of the process is S seconds off
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from m2hf.cli.app import main as m2hf
from m2hf.ledger import LedgerWriter

# point -> (the object with the function that is there, its name, whether before its call)
POINTS: dict[str, tuple[Any, str, bool]] = {
    "a clip is about to be recorded as started": (LedgerWriter, "started", True),
    "a clip was recorded as started": (LedgerWriter, "started", False),
    "a clip is about to be recorded as decoded": (LedgerWriter, "decoded", True),
    "a result is about to be recorded": (LedgerWriter, "done", True),
    "a result was recorded": (LedgerWriter, "done", False),
    "a file is written and not synced": (os, "fsync", True),
    "a file is synced and not renamed": (os, "replace", True),
    "a file was renamed": (os, "replace", False),
}


def main(arguments: list[str]) -> None:
    """Disturb this process, then run m2hf in it."""
    at = arguments.index("--")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.disturbed")
    parser.add_argument("--kill", nargs=2, metavar=("POINT", "N"))
    parser.add_argument("--clock", type=float, default=0.0)
    given = parser.parse_args(arguments[:at])
    if given.kill:
        _kill_at(given.kill[0], int(given.kill[1]))
    if given.clock:
        real = time.time
        time.time = lambda: real() + given.clock
    sys.argv = ["m2hf", *arguments[at + 1 :]]
    m2hf()


def _kill_at(point: str, nth: int) -> None:
    holder, name, before = POINTS[point]
    real: Callable[..., Any] = getattr(holder, name)
    left = nth

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if before and not left:
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(*arguments, **named)
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(holder, name, counted)


if __name__ == "__main__":
    main(sys.argv[1:])
