"""`python -m benchmarks.fuzz`: mutated files of every format, and how m2hf ends on each.

Prints a row for each format, and the first failures of each; exit code 1 if there is one. A case is
decided by `--seed`, the format and its number, which a failure names.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fuzz import sound_files
from benchmarks.fuzz.command import Outcome
from benchmarks.fuzz.formats import FORMATS
from benchmarks.fuzz.run import Tally, fuzz

_SHOWN = 5  # failures of a format


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table; 1 where a case ended in a traceback or hung."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="cases of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="a format; repeatable")
    given = parser.parse_args(arguments)
    names = [each.name for each in FORMATS if each.name in (given.only or [each.name])]
    if unknown := set(given.only or ()) - set(names):
        parser.error(f"no format {sorted(unknown)[0]!r}; there are {', '.join(names)}")
    print("| format | tried | refused | accepted | tracebacks | hangs | s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sound_files.make(folder)
        for name in names:
            began = time.perf_counter()
            tally = fuzz(folder, name, given.seed, given.count)
            print(f"{row(name, tally)} {time.perf_counter() - began:.0f} |", flush=True)
            wrong += tally.wrong[:_SHOWN]
    for said in wrong:
        print(said, file=sys.stderr)
    return 1 if wrong else 0


def row(name: str, tally: Tally) -> str:
    """A row of the table, without its last cell."""
    counts = (str(tally.outcomes[outcome]) for outcome in Outcome)
    return f"| {name} | {tally.tried} | {' | '.join(counts)} |"


if __name__ == "__main__":
    sys.exit(main())
