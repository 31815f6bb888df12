"""`python -m benchmarks.search`: seconds per query of one open searcher, as in `m2hf app`.

Random features of `--videos` videos, in a temporary folder; queries are captions with features, so
the text tower is not measured. The first query encodes the gallery.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.scoring.gallery import SIZES, write
from m2hf.config import parse, read_recipe
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.level_table import CAPTIONS
from m2hf.fuse.search.index import SearchIndex
from m2hf.fuse.search.searcher import Searcher

_TOP = 12  # results, as on the page


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--videos", type=int, action="append", help="repeatable")
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], help="fuse settings")
    given = parser.parse_args(arguments)
    config = parse(FusionConfig, read_recipe(None, ["fuse.device=cpu", *given.set])["fuse"])
    print("| videos | first query, s | per query, ms: median | slowest | scoring alone |")
    print("|---|---:|---:|---:|---:|")
    for videos in given.videos or [1_000, 10_000]:
        print(_row(videos, given.queries, config), flush=True)
    return 0


def _row(videos: int, queries: int, config: FusionConfig) -> str:
    size = replace(SIZES["msvd"], queries=queries, videos=videos)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        manifest = write(root, size, config)
        index = SearchIndex.open(manifest, root / "store", root / "run", split="test")
        searcher = Searcher(index, {CAPTIONS: index.store[CAPTIONS].features})
        first = _seconds(searcher, f"test{0:05d}#0")
        each = sorted(_seconds(searcher, f"test{n:05d}#0") for n in range(queries))
        began = time.perf_counter()
        for n in range(queries):
            index.scores({CAPTIONS: index.store[CAPTIONS].features(f"test{n:05d}#0")})
        scores = (time.perf_counter() - began) / queries
    ms = [1000 * seconds for seconds in (each[len(each) // 2], each[-1], scores)]
    return f"| {videos:,} | {first:.2f} | {ms[0]:.1f} | {ms[1]:.1f} | {ms[2]:.1f} |"


def _seconds(searcher: Searcher, query: str) -> float:
    began = time.perf_counter()
    searcher.search(query, _TOP)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
