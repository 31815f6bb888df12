"""Runs the cases of a format in a process that is watched, and counts how they end."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from benchmarks.fuzz.command import Outcome

LIMIT_S = 90.0  # of a case, and of starting the process


@dataclass
class Tally:
    """Cases by outcome, and what was said of those that are wrong."""

    tried: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome, said: str) -> None:
        self.tried += 1
        self.outcomes[outcome] += 1
        if outcome in (Outcome.TRACEBACK, Outcome.HANG):
            self.wrong.append(said)


def fuzz(folder: Path, name: str, seed: int, count: int) -> Tally:
    """Run `count` cases of the format `name` on copies of the sound files in `folder`."""
    tally, done = Tally(), 0
    while done < count:
        command = [sys.executable, "-m", "benchmarks.fuzz.worker", str(folder), name]
        process = subprocess.Popen(
            [*command, str(seed), str(done), str(count - done)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        hung = False
        try:
            for line in _lines(process.stdout):
                ended = json.loads(line)
                tally.add(Outcome(ended["outcome"]), ended["said"])
                done += 1
            process.wait(LIMIT_S)
        except (TimeoutError, subprocess.TimeoutExpired):
            hung = True
            os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate()[1].decode(errors="replace")
        if done < count:
            outcome = Outcome.HANG if hung else Outcome.TRACEBACK
            what = f"hung for {LIMIT_S} s" if hung else f"ended by {process.returncode}: {said}"
            tally.add(outcome, f"seed '{seed} {name} {done}': the process {what}")
            done += 1
    return tally


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Whole lines; raises TimeoutError where none comes for `LIMIT_S`."""
    buffered = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while selector.select(LIMIT_S):
            block = os.read(stream.fileno(), 1 << 16)
            if not block:
                return
            *whole, buffered = (buffered + block).split(b"\n")
            yield from whole
    raise TimeoutError
