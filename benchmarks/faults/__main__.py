"""`python -m benchmarks.faults`: causes faults, and counts what is lost or missed.

Prints a Markdown table; `--out PAGE` also puts it between the markers of a page. Equal seeds cause
equal faults, but for the moments of random kills. Exit code 1 if anything was lost or missed.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.faults.fault import Fault
from benchmarks.faults.flips import FLIPS
from benchmarks.faults.kills import KILLS
from benchmarks.faults.mutated_files import MUTATED_FILES
from benchmarks.faults.mutated_media import MUTATED_MEDIA
from benchmarks.faults.resources import RESOURCES

FAULTS = (KILLS, MUTATED_MEDIA, MUTATED_FILES, FLIPS, *RESOURCES)
BEGIN, END = "<!-- faults -->", "<!-- end of faults -->"
_HEADER = ("| fault | tried | lost or missed | outcome | s |", "|---|---:|---:|---|---:|")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each fault; 1 where something was lost or missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--only", action="append", choices=[each.name for each in FAULTS])
    parser.add_argument("--count", type=int, help="how often; by default that of each fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a page with markers to put the table between")
    given = parser.parse_args(arguments)
    lines = [*_HEADER]
    print("\n".join(lines), flush=True)
    lost = 0
    for each in FAULTS:
        if each.name in (given.only or [each.name]):
            line, of_it = _row(each, given.count or each.count, given.seed)
            print(line, flush=True)
            lines.append(line)
            lost += of_it
    lines += ["", f"{datetime.now(UTC):%Y-%m-%d}, {_machine()}, seed {given.seed}."]
    if given.out is not None:
        page = given.out.read_text(encoding="utf-8")
        given.out.write_text(with_table(page, lines), encoding="utf-8")
    return 1 if lost else 0


def with_table(page: str, lines: Sequence[str]) -> str:
    """The page with these lines between its markers; raises ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page needs the lines {BEGIN} and {END}")
    return "\n".join((f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"))


def _row(fault: Fault, count: int, seed: int) -> tuple[str, int]:
    with tempfile.TemporaryDirectory() as temporary:
        began = time.perf_counter()
        found = fault.cause(Path(temporary), count, seed)
    cells = (f"{fault.what} (`{fault.name}`)", found.tried, found.lost, found.outcome)
    seconds = time.perf_counter() - began
    return f"| {' | '.join(map(str, cells))} | {seconds:.0f} |", found.lost


def _machine() -> str:
    return f"{os.cpu_count()} CPU cores, {platform.machine()}, {platform.system()}"


if __name__ == "__main__":
    sys.exit(main())
