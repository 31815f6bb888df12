"""`python -m benchmarks.toybox --data DIR`: the demo's runs over several seeds, as one table.

DIR is the output of `m2hf demo --out DIR`. The kind of a query is the information that its clip is
found by (see m2hf.data_manifests.toybox.families). Numbers are means over training seeds with
standard deviation.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from m2hf.cli.demo import RECIPE, RUNS
from m2hf.cli.recipe import load_recipe
from m2hf.cli.tables import tables
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.training.run import train
from m2hf.manifest import Manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toybox", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="as of m2hf train")
    given = parser.parse_args(arguments)
    manifest, store = Manifest.load(given.data / "manifest"), given.data / "store"
    with tempfile.TemporaryDirectory() as folder:
        scored = []
        for run in RUNS:
            untrained = "fuse.train.epochs=0" in run.settings  # the seed has no effect
            for seed in range(1 if untrained else given.seeds):
                settings = [*run.settings, f"fuse.train.seed={seed}", *given.set]
                config = load_recipe(RECIPE, settings)[0].fuse
                out = Path(folder) / f"{run.folder}-{seed}"
                train(manifest, store, out, config)
                scored.append(evaluate(manifest, store, out))
        tables(scored, kinds=given.data / "kinds.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
