"""SIGKILLs of whole runs at random points, and what must be true after them.

Many of them, as `python tests/helpers/kills.py FOLDER 100`: prints a line for each store that
was completed.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import media
from corpus import ExtractionCorpus, LedgerFiles

M2HF = str(Path(sys.executable).parent / "m2hf")
ONLY = "flow,thumbnail"


def small_corpus(folder: Path) -> ExtractionCorpus:
    """Six clips of a second; their features need no network."""
    (folder / "media").mkdir(parents=True)
    files = {
        f"id/{i}": media.good(folder / "media" / f"clip{i}.mp4", seconds=1, tone=300 + 90 * i)
        for i in range(6)
    }
    return ExtractionCorpus(folder, files, ("--set", "extract.device=cpu"))  # without torch


def run(command: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process group of its own, which a fault may kill."""
    env = {**os.environ, **environment}
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=300, start_new_session=True
    )


def killed(command: list[str], ledger: LedgerFiles, lines: int) -> bool:
    """Start a command, and SIGKILL its process group once the ledger has grown by `lines`; False
    where it ended before."""
    before = ledger.lines()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and ledger.lines() < before + lines:
        time.sleep(0.002)
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=300)
    return True


def survive(corpus: ExtractionCorpus, count: int, seed: int) -> int:
    """Kill `count` runs at random points, on a new store whenever one is complete; returns the
    number of stores.

    Fails where a run ends with another code than 0, or a complete store differs from that of a run
    without incident.
    """
    chosen, left, stores = random.Random(seed), count, 0
    assert run([M2HF, "extract", *corpus.options("calm", only=ONLY)]).returncode == 0
    calm = corpus.shards("calm")
    while left:
        stores += 1
        shutil.rmtree(corpus.folder / "killed", ignore_errors=True)
        command = [M2HF, "extract", *corpus.options("killed", only=ONLY)]
        ledger = corpus.ledger("killed")
        while left and killed(command, ledger, lines=chosen.randint(1, 20)):
            left -= 1
        done = run(command)
        assert done.returncode == 0, done.stderr
        assert corpus.shards("killed") == calm
        print(f"store {stores}: complete and equal, {count - left} of {count} kills", flush=True)
    return stores


if __name__ == "__main__":
    survive(small_corpus(Path(sys.argv[1])), int(sys.argv[2]), seed=0)
