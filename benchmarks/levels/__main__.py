"""`python -m benchmarks.levels`: measure the rows, print the tables, write the JSON."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.levels import loading, matrices
from benchmarks.levels.report import as_json, markdown
from benchmarks.levels.rows import LOADING, select_rows
from benchmarks.levels.run import TrainingOutcomes, run, tasks
from m2hf.atomic import atomic_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows; exit code 1 if a training failed (its row is marked as failed)."""
    given = _parser().parse_args(arguments)
    try:
        rows = select_rows(given.only)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    more: dict[str, Any] = {}
    if not given.only or LOADING in given.only:
        more["loading"] = loading.measure(given.workers)
    if given.matrices is not None:
        more["matrices"] = matrices.measure(
            given.matrices, given.seeds, given.workers, given.fitted
        )
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    todo = tasks(rows, seeds)
    trainings = sum(len(task.trainings) for task in todo)
    print(f"{trainings} trainings on {len(todo)} data sets", file=sys.stderr)
    began, done = time.monotonic(), 0
    outcomes: TrainingOutcomes = {}
    for task, found in run(todo, given.workers, given.scale, tuple(given.set)):
        outcomes |= found
        done += len(found)
        seconds = time.monotonic() - began
        what = ", ".join(f"{share:.0%} of {factor} missing" for factor, share in task.data.missing)
        print(
            f"{done}/{trainings} after {seconds:.0f} s: {task.data.setting}, "
            f"seed {task.data.seed}{what and ', ' + what}",
            file=sys.stderr,
        )
    results = as_json(rows, seeds, outcomes) | more
    print(markdown(rows, results), end="")
    if given.matrices is not None:
        print(matrices.markdown(more["matrices"], given.fitted), end="")
    if given.json is not None:
        atomic_text(given.json, json.dumps(results, indent=1) + "\n")
    failed = {outcome.failed for outcome in outcomes.values() if outcome.failed}
    for message in sorted(failed):
        print(f"failed: {message}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levels", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="data sets and trainings per row")
    parser.add_argument("--first-seed", type=int, default=0, help="of the seeds")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--only", default="", help="groups of rows, comma-separated")
    parser.add_argument(
        "--matrices", type=Path, metavar="DIR", help=f"also fuse {' and '.join(matrices.FILES)}"
    )
    parser.add_argument(
        "--fitted", type=int, metavar="N", help="videos to fit their fusion on; default: half"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="fraction of the videos, for a quick run"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="setting of every training"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
