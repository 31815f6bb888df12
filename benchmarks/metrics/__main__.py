"""`python -m benchmarks.metrics`: both implementations on two sizes, each in a process of its own.

Random scores with hardly any ties, so that the mean ranks agree to 1e-4, which is checked. Memory
is the peak resident size of the process beyond the matrix itself.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.metrics import sorting
from m2hf.fuse.scores.metrics import t2v_ranks, v2t_ranks


@dataclass(frozen=True)
class MatrixSize:
    """Rows (queries) and columns (videos); query i is of video i modulo the number of videos."""

    name: str
    queries: int
    videos: int


SIZES = (MatrixSize("MSVD", 27_763, 670), MatrixSize("one caption", 10_000, 10_000))
RANKS: dict[tuple[str, str], Callable[..., Any]] = {
    ("T2V", "m2hf"): lambda s, a: t2v_ranks(s, a).expected,
    ("T2V", "sorting"): sorting.t2v_ranks,
    ("V2T", "m2hf"): lambda s, a: v2t_ranks(s, a).expected,
    ("V2T", "sorting"): sorting.v2t_ranks,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table; exit code 1 if the two disagree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="fraction of both sides, for a quick run"
    )
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        queries, videos, direction, how = given.one
        print(json.dumps(measure(int(queries), int(videos), direction, how)))
        return 0
    print("| texts x videos | direction | m2hf | sorting | speed-up | m2hf extra | sorting extra |")
    print("|---|---|---:|---:|---:|---:|---:|")
    agree = True
    for size in SIZES:
        queries, videos = (max(int(n * given.scale), 2) for n in (size.queries, size.videos))
        for direction in ("T2V", "V2T"):
            ours, other = (
                _in_subprocess(queries, videos, direction, how) for how in ("m2hf", "sorting")
            )
            agree &= bool(np.isclose(ours["mean_rank"], other["mean_rank"], rtol=1e-4))
            times = other["seconds"] / ours["seconds"]
            print(
                f"| {queries:,} x {videos:,} ({size.name}) | {direction} "
                f"| {ours['seconds']:.2f} s | {other['seconds']:.2f} s | {times:.0f} "
                f"| {ours['extra_mib']:.0f} MiB | {other['extra_mib']:.0f} MiB |",
                flush=True,
            )
    if not agree:
        print("the two give different mean ranks", file=sys.stderr)
    return 0 if agree else 1


def measure(queries: int, videos: int, direction: str, how: str) -> dict[str, float]:
    """Seconds, mean rank, and MiB beyond those of the process with the matrix."""
    rng = np.random.default_rng(0)
    scores_QV = rng.random((queries, videos), dtype=np.float32)
    ground_truth = np.arange(queries) % videos
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    ranks = RANKS[direction, how](scores_QV, ground_truth)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "mean_rank": float(np.mean(ranks)),
        "extra_mib": (after - before) / 1024,
    }


def _in_subprocess(queries: int, videos: int, direction: str, how: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.metrics", "--one"]
    command += [str(queries), str(videos), direction, how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
