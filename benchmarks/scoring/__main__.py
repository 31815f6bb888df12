"""`python -m benchmarks.scoring`: `m2hf eval` and `m2hf tables` at the size of a benchmark.

Writes random features to a temporary folder, which it removes, and measures in separate processes.
Memory is the anonymous memory allocated after all libraries are loaded; "resident" is all resident
memory, including features and matrices mapped from disk. Exit code 1 if scoring exceeds its memory
limit.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.scoring.gallery import SIZES, write
from benchmarks.scoring.memory import watched
from m2hf.config import parse, read_recipe
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.manifest import Manifest

_SPARE = 1.2  # free disk needed, as a multiple of the size of the files


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for scoring and one for the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="activitynet")
    parser.add_argument("--queries", type=int, help="fewer captions than the benchmark has")
    parser.add_argument("--videos", type=int, help="fewer videos")
    parser.add_argument("--scoring", choices=("mean", "wti"), default="mean")
    parser.add_argument("--memory", type=int, default=2048, help="fuse.eval.memory_mb")
    parser.add_argument("--set", action="append", default=[], help="fuse settings")
    parser.add_argument("--in", dest="folder", type=Path, help="parent of the temporary folder")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    settings = [f"fuse.scoring={given.scoring}", f"fuse.eval.memory_mb={given.memory}", *given.set]
    config = parse(FusionConfig, read_recipe(None, ["fuse.device=cpu", *settings])["fuse"])
    if given.one:
        print(json.dumps(measure(given.one[0], Path(given.one[1]), config)))
        return 0
    size = SIZES[given.size]
    size = replace(size, queries=given.queries or size.queries, videos=given.videos or size.videos)
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        root = Path(temporary)
        matrices = 5 * 4 * size.queries * size.videos
        free, needed = shutil.disk_usage(root).free, _SPARE * (size.stored_bytes + matrices)
        if free < needed:
            print(f"{root}: {free >> 20} MiB free, needs {int(needed) >> 20}", file=sys.stderr)
            return 2
        write(root, size, config)
        print(f"{size.queries:,} x {size.videos:,}, {given.scoring}, limit {given.memory} MiB")
        print("| what | s | MiB of its own | MiB resident | MiB of matrices |")
        print("|---|---:|---:|---:|---:|")
        within = True
        for what in ("eval", "tables"):
            found = _in_subprocess(what, root, settings)
            print(
                f"| {what} | {found['seconds']:.1f} | {found['extra']:.0f} "
                f"| {found['resident']:.0f} | {matrices / 2**20:.0f} |",
                flush=True,
            )
            within &= what == "tables" or found["extra"] <= given.memory
    return 0 if within else 1


def measure(what: str, root: Path, config: FusionConfig) -> dict[str, Any]:
    """Seconds and MiB of scoring, or of making the table."""
    manifest = Manifest.load(root / "manifest")
    given = FusionConfig(late=config.late, eval=config.eval, device="cpu")
    if what == "eval":  # a few videos first, so that libraries load what they load at first use
        evaluate(manifest, root / "store", root / "run", given, "val")
    began = time.perf_counter()
    with watched() as peak:
        if what == "eval":
            evaluate(manifest, root / "store", root / "run", given)
        else:
            SimilarityTable().build([RunFolder(root / "run").similarity])
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "extra": peak.extra, "resident": peak.resident}


def _in_subprocess(what: str, root: Path, settings: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scoring", "--one", what, str(root)]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
