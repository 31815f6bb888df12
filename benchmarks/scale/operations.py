"""The commands that are measured, each in a process of its own, and what such a process used.

This module loads no large library: the peak memory of a process is at least that of the one which
started it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2hf.errors import M2hfError

NAMES = ("logmel", "flow")  # extractors without weights
SETTINGS = ("extract.logmel.mels=8",)  # so that a row has 16 values
LEVELS = (
    f"fuse.streams.frames={NAMES[0]}",
    f"fuse.streams.motion={NAMES[1]}",
    "fuse.levels.audio_visual.enabled=false",
    "fuse.levels.text.enabled=false",
)
HELD_OUT = 100  # clips in val, and in test
LEAST_CLIPS = 3 * HELD_OUT
QUERIES = 50
SEARCH, QUERY = "search start", "a query"

# No epoch: the rest is work on all clips, and does not depend on how long one trains.
_TRAINING = (*LEVELS, "fuse.device=cpu", "fuse.train.epochs=0")


@dataclass(frozen=True)
class Usage:
    """CPU seconds, seconds and the peak of resident memory, in MiB."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def measured(root: Path, clips: int) -> dict[str, Usage]:
    """Write `clips` to `root`, and run every operation on them, in the order of the table."""
    _run([sys.executable, "-m", "benchmarks.scale.store", str(root), str(clips)])
    used = {name: _run(command)[0] for name, command in _commands(root).items()}
    command = [sys.executable, "-m", "benchmarks.scale.queries", str(root), str(QUERIES)]
    whole, said = _run(command)
    cpu_s, wall_s = json.loads(said)
    used[SEARCH] = Usage(
        whole.cpu_s - QUERIES * cpu_s, whole.wall_s - QUERIES * wall_s, whole.peak_mb
    )
    used[QUERY] = Usage(cpu_s, wall_s, whole.peak_mb)
    return used


def _commands(root: Path) -> dict[str, list[str]]:
    """Operation -> its command, for what `store.write` wrote to `root`. Training leaves the run
    that search needs."""
    manifest, store = str(root / "manifest"), ["--store", str(root / "store")]
    on = ["--manifest", manifest, "--media", str(root / "media"), *store]
    job = [*on, "--only", ",".join(NAMES), *_set(SETTINGS)]
    run = ["--run", str(root / "run"), *_set(_TRAINING)]
    m2hf = [sys.executable, "-m", "m2hf"]
    return {
        "check": [*m2hf, "manifest", "check", manifest],
        "plan": [*m2hf, "plan", *job],
        "empty run": [*m2hf, "extract", *job],
        "status": [*m2hf, "status", *job],
        "verify": [*m2hf, "verify", "--manifest", manifest, *store],
        "retry": [*m2hf, "retry", *job],
        "train start": [*m2hf, "train", "--manifest", manifest, *store, *run],
    }


def _run(command: Sequence[str]) -> tuple[Usage, str]:
    """What a command used, and its output; raises M2hfError unless it ends with 0."""
    began = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            end = f"exit code {process.returncode}: {errors.read()}"
            raise M2hfError(f"{' '.join(command)}: {end}")
    seconds = time.perf_counter() - began
    return Usage(used.ru_utime + used.ru_stime, seconds, used.ru_maxrss / 1024), said


def _set(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]
