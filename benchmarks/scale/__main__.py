"""`python -m benchmarks.scale`: how time and memory of each command grow with the number of clips.

Writes a manifest, shards and a ledger of synthetic clips to a temporary folder, which it removes,
and runs each command in a process of its own. The exponent of growth is the slope between the two
largest sizes, on logarithmic axes; exit code 1 if one is above 1.15 where the larger size takes 2
CPU seconds, or 512 MiB.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.scale.growth import exponents, too_steep
from benchmarks.scale.operations import LEAST_CLIPS, Usage, measured


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table of operations and sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--sizes", default="1000,10000,100000", help="clips, comma-separated")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--in", dest="folder", type=Path, help="parent of the temporary folder")
    given = parser.parse_args(arguments)
    sizes = sorted({int(size) for size in given.sizes.split(",")})
    if sizes[0] < LEAST_CLIPS:
        parser.error(f"--sizes: at least {LEAST_CLIPS} clips, so that some can be trained on")
    print("| operation | clips | CPU s | s | peak MiB |")
    print("|---|---:|---:|---:|---:|")
    found: dict[str, dict[int, Usage]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
            used = measured(Path(temporary), size)
        for name, usage in used.items():
            found.setdefault(name, {})[size] = usage
            cells = f"{usage.cpu_s:.2f} | {usage.wall_s:.2f} | {usage.peak_mb:.0f}"
            print(f"| {name} | {size:,} | {cells} |", flush=True)
    _print_exponents(found)
    if given.json:
        records = {
            name: {size: dataclasses.asdict(usage) for size, usage in of.items()}
            for name, of in found.items()
        }
        given.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return int(any(too_steep(of) for of in found.values()))


def _print_exponents(found: Mapping[str, Mapping[int, Usage]]) -> None:
    print("\n| operation | exponent of CPU s | of peak MiB |\n|---|---:|---:|")
    for name, of in found.items():
        if slopes := exponents(of):
            print(f"| {name} | {slopes[0]:.2f} | {slopes[1]:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
