"""SIGKILL at random and at named points of an extraction; then the same command again."""

import signal
import subprocess
import time
from pathlib import Path
from random import Random

from benchmarks.faults.clips import Clips
from benchmarks.faults.disturbed import POINTS
from benchmarks.faults.fault import Fault, Result, listed

_CLIPS = 6
_MOST_ATTEMPTS = 4  # for a kill: a run may end before it
_KILLS_OF_A_STORE = 3  # the rest of a store is then extracted without a kill


def cause(folder: Path, count: int, seed: int) -> Result:
    """Kill `count` runs, half of them after a random time; lost: shards whose bytes differ from an
    undisturbed run's, and items in quarantine."""
    random = Random(seed)  # noqa: S311 - no secret
    clips = Clips.make(folder, _CLIPS)
    began = time.perf_counter()
    ended = clips.run("extract", "whole")
    if ended.code:
        raise RuntimeError(ended.said)
    whole_s = time.perf_counter() - began
    died = attempts = differ = quarantined = stores = 0
    while died < count and attempts < _MOST_ATTEMPTS * count:
        store = f"store{stores}"
        stores += 1
        for _ in range(min(_KILLS_OF_A_STORE, count - died)):
            died += _killed(clips, store, random, whole_s, attempts)
            attempts += 1
        clips.run("extract", store)
        differ += clips.differing(store, "whole")
        quarantined += clips.quarantined(store)
    counts = {"shards differ": differ, "items in quarantine": quarantined}
    return Result(
        died,
        differ + quarantined,
        f"{attempts - died} runs more had ended before; {stores} stores, each completed by one "
        f"`extract`; {listed(counts)}",
    )


def _killed(clips: Clips, store: str, random: Random, whole_s: float, number: int) -> bool:
    """Whether the run died of it."""
    if number % 2:
        point = random.choice(sorted(POINTS))
        nth = random.randint(1, 3)
        return clips.run("extract", store, ("--kill", point, str(nth))).code == -signal.SIGKILL
    process = clips.start("extract", store)
    try:
        process.wait(random.uniform(0.2, 0.8) * whole_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


KILLS = Fault("kills", "SIGKILL of an extraction, at random and at named points", 100, cause)
