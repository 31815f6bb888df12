"""Resources that run out or go away during an extraction, and come back."""

import ctypes
import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from benchmarks.faults.clips import Clips, Ended
from benchmarks.faults.fault import Fault, Result

_CLIPS = 6
_DROP, _DAC_OVERRIDE = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
_DAY_S = 86400

Disturbance = Callable[[Clips, str, Random], Ended]


def _fault(name: str, what: str, count: int, disturb: Disturbance) -> Fault:
    """A fault that disturbs runs; lost: shards that differ after `retry` and another `extract`,
    items in quarantine, and tracebacks."""

    def cause(folder: Path, count: int, seed: int) -> Result:
        random = Random(f"{name} {seed}")  # noqa: S311 - no secret
        clips = Clips.make(folder, _CLIPS)
        clips.run("extract", "whole")
        lost, tracebacks, codes, said = 0, 0, set(), ""
        for number in range(count):
            store = f"store{number}"
            ended = disturb(clips, store, random)
            codes.add(ended.code)
            tracebacks += ended.traceback
            said = ended.message or said
            clips.run("retry", store)
            clips.run("extract", store)
            lost += clips.differing(store, "whole") + clips.quarantined(store)
        ends = ", ".join(map(str, sorted(codes)))
        outcome = f"exit codes {ends}; {tracebacks} tracebacks"
        if said:
            outcome += f'; "{_anywhere(said.replace(str(folder), ""))}"'
        return Result(count, lost + tracebacks, outcome)

    return Fault(name, what, count, cause)


def _anywhere(said: str) -> str:
    """A message for a cell of a table, without the names of ledger files: they name the host."""
    return re.sub(r"[^/ ]+\.jsonl", "....jsonl", said).replace("|", "/")


def _full_disk(clips: Clips, store: str, random: Random) -> Ended:
    most = random.choice((1, 1 << 10, 1 << 12, 1 << 14))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return clips.run("extract", store, before=limit)


def _read_only(clips: Clips, store: str, _: Random) -> Ended:
    folder = clips.folder / store
    folder.mkdir()
    folder.chmod(0o555)
    try:
        return clips.run("extract", store, before=_without_override)
    finally:
        folder.chmod(0o755)


def _without_override() -> None:
    """Root obeys the permissions of files, as other users do."""
    if os.getuid() == 0:
        ctypes.CDLL(None).prctl(_DROP, _DAC_OVERRIDE, 0, 0, 0)


def _little_memory(clips: Clips, store: str, random: Random) -> Ended:
    most = random.randint(400, 1600) << 20

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return clips.run("extract", store, before=limit)


def _media_gone(clips: Clips, store: str, random: Random) -> Ended:
    after = random.randint(1, 3 * _CLIPS)
    media = clips.folder / "media"
    process = clips.start("extract", store)
    while process.poll() is None and _lines(clips, store) < after:
        time.sleep(0.002)
    with _away(media):
        code = process.wait()
    return Ended(code, "")


def _lines(clips: Clips, store: str) -> int:
    """Lines of the store's ledger."""
    files = (clips.folder / store).glob("*/ledger/*.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in files)


@contextmanager
def _away(folder: Path) -> Iterator[None]:
    """The folder has another name."""
    away = folder.with_name("away")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)


def _clock_set_back(clips: Clips, store: str, random: Random) -> Ended:
    _media_gone(clips, store, random)
    back = ("--clock", str(-_DAY_S * random.randint(1, 1000)))
    clips.run("retry", store, disturbed=back)
    return clips.run("extract", store, disturbed=back)


RESOURCES = (
    _fault("disk", "a disk that takes no more bytes (RLIMIT_FSIZE)", 8, _full_disk),
    _fault("read-only", "a store without write permission", 2, _read_only),
    _fault("memory", "too little memory (RLIMIT_AS)", 8, _little_memory),
    _fault("gone", "the folder of media, gone during the run, and back", 4, _media_gone),
    _fault("clock", "a clock that is set back by days, after failures", 4, _clock_set_back),
)
