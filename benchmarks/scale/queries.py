"""`python -m benchmarks.scale.queries ROOT N`: open a search over all clips, and ask it N queries.

The queries are captions with features, which need no text encoder. Prints mean CPU seconds and
seconds of a query as JSON, after a first one, which encodes the gallery.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.scale.operations import HELD_OUT
from m2hf.fuse.level_table import CAPTIONS
from m2hf.fuse.search.index import SearchIndex
from m2hf.fuse.search.searcher import Searcher
from m2hf.manifest import Manifest

_TOP = 12  # results, as on the page


def main(root: Path, queries: int) -> None:
    """Print the means."""
    manifest = Manifest.load(root / "manifest")
    index = SearchIndex.open(manifest, root / "store", root / "run")
    searcher = Searcher(index, {CAPTIONS: index.store[CAPTIONS].features})
    ids = [f"clip{n % HELD_OUT:08d}#0" for n in range(1 + queries)]
    searcher.search(ids[0], _TOP)
    began = time.process_time(), time.perf_counter()
    for query in ids[1:]:
        searcher.search(query, _TOP)
    ended = time.process_time(), time.perf_counter()
    print(json.dumps([(b - a) / queries for a, b in zip(began, ended, strict=True)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
