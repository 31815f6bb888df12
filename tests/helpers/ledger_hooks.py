"""Hooks into the ledger that make a process wait, or end, right after an event was written.

M2HF_TEST_GATE=FILE    a process waits at the third clip that it starts, until FILE exists
M2HF_TEST_POISON=ID    a process is killed when flow extraction of the clip ID starts
M2HF_TEST_FAULT="ROLE POINT ACTION"    ROLE is "run" or "trial" (the child process that tries
    suspects alone), POINT a method of LedgerWriter, ACTION one of those below
M2HF_TEST_CLOCK=HOURS    the clock is set back by so much

Python imports this file at its start where PYTHONPATH is the folder `startup`: in the command, in
Dask workers, and in the child processes of trials.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from m2hf.ledger import LedgerWriter

_started: list[str] = []


def kill_group() -> None:
    """As when a machine or a job is killed: all its processes at once."""
    os.killpg(0, signal.SIGKILL)


def kill_one_by_one() -> None:
    """As a job is killed by name: this process, and its parent a moment later."""
    kills = f"kill -9 {os.getpid()}; sleep 0.2; kill -9 {os.getppid()}"
    subprocess.run(["sh", "-c", kills], check=False)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def vanish() -> None:
    os._exit(7)


def _hook(point: str) -> None:
    original = getattr(LedgerWriter, point)

    @wraps(original)
    def hooked(self: LedgerWriter, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        role = "trial" if "m2hf.pipelines.trial_process" in sys.orig_argv else "run"
        fault = os.environ.get("M2HF_TEST_FAULT", "").split()
        if fault[:2] == [role, point]:
            globals()[fault[2]]()
        if point == "started":
            _gate_and_poison(*arguments)

    setattr(LedgerWriter, point, hooked)


def _gate_and_poison(item: str, streams: list[str], stage: str, *_: Any) -> None:
    _started.append(item)
    gate = os.environ.get("M2HF_TEST_GATE")
    while gate and len(_started) == 3 and not Path(gate).exists():
        time.sleep(0.02)
    poison = os.environ.get("M2HF_TEST_POISON")
    if stage == "extract" and (item, streams[0][:5]) == (poison, "flow@"):
        os.kill(os.getpid(), signal.SIGKILL)


def _slow_clock(real: Callable[[], float] = time.time) -> float:
    return real() - 3600 * float(os.environ.get("M2HF_TEST_CLOCK", 0))


time.time = _slow_clock
for method in ("__init__", "started", "decoded", "done", "died"):
    _hook(method)
