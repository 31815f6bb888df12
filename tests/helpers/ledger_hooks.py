"""Hooks into the ledger that make a process wait, or die, right after an event was written.

M2HF_TEST_GATE=FILE    a process waits at the third clip that it starts, until FILE exists
M2HF_TEST_POISON=ID    a process is killed when flow extraction of the clip ID starts

Use as a preload of Dask workers, `dask worker --preload tests/helpers/ledger_hooks.py`, or to run
the command: `python tests/helpers/ledger_hooks.py extract ...`.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from m2hf.ledger import LedgerWriter

_started: list[str] = []


def started_with_hooks(
    self: LedgerWriter,
    item: str,
    streams: Sequence[str],
    stage: str,
    *more: object,
    original: Callable[..., None] = LedgerWriter.started,
) -> None:
    """Write the event, so that other processes can read it; then wait or die."""
    original(self, item, streams, stage, *more)
    _started.append(item)
    gate = os.environ.get("M2HF_TEST_GATE")
    while gate and len(_started) == 3 and not Path(gate).exists():
        time.sleep(0.02)
    poison = os.environ.get("M2HF_TEST_POISON")
    if stage == "extract" and (item, streams[0][:5]) == (poison, "flow@"):
        os.kill(os.getpid(), signal.SIGKILL)


if LedgerWriter.started.__name__ != "started_with_hooks":  # Dask loads a preload twice
    LedgerWriter.started = started_with_hooks  # type: ignore[method-assign]

if __name__ == "__main__":
    from m2hf.cli.app import main

    main()
