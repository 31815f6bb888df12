"""`python -m benchmarks.toybox`: the demo's runs over several seeds, as one table.

--data DIR has clips and features, as of `m2hf demo --out DIR`; without it the default set is
generated and extracted. The kind of a query is the information that its clip is found by (see
m2hf.data_manifests.toybox.families). Numbers are means over training seeds with standard
deviation.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.toybox.recalls import recalls
from m2hf.atomic import atomic_text
from m2hf.cli.demo import RECIPE, RUNS, generate
from m2hf.cli.options import TOYBOX_CLIPS
from m2hf.cli.recipe import load_recipe
from m2hf.cli.tables import tables
from m2hf.errors import M2hfError
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.tables.kinds import QueryKinds
from m2hf.fuse.training.run import train
from m2hf.manifest import Manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table as Markdown, and write R@1 by run, kind and level as JSON."""
    given = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        try:
            _measure(given, Path(place))
        except M2hfError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    return 0


def _measure(given: argparse.Namespace, place: Path) -> None:
    data = given.data
    if data is None:
        data = place / "toybox"
        generate(data, TOYBOX_CLIPS, seed=0, workers=given.workers)
    manifest, store, kinds = Manifest.load(data / "manifest"), data / "store", data / "kinds.csv"
    scored: dict[str, list[Path]] = {}
    for run in RUNS:
        untrained = "fuse.train.epochs=0" in run.settings  # the seed has no effect
        for seed in range(1 if untrained else given.seeds):
            settings = [*run.settings, f"fuse.train.seed={seed}", *given.set]
            config = load_recipe(RECIPE, settings)[0].fuse
            out = place / f"{run.folder}-{seed}"
            train(manifest, store, out, config)
            scored.setdefault(run.folder, []).append(evaluate(manifest, store, out))
            print(f"{run.folder}, seed {seed}: done", file=sys.stderr)
        if given.json is not None:
            results = {"rows": recalls(scored, QueryKinds.read(kinds))}
            atomic_text(given.json, json.dumps(results, indent=1) + "\n")
    tables([str(path) for paths in scored.values() for path in paths], kinds=kinds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toybox", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", help="clips and features")
    parser.add_argument("--seeds", type=int, default=5, help="trainings for each run")
    parser.add_argument("--json", type=Path, help="file to write, after each run")
    parser.add_argument("--set", action="append", default=[], help="as of m2hf train")
    parser.add_argument("--workers", type=int, default=2, help="processes of the extraction")
    return parser


if __name__ == "__main__":
    sys.exit(main())
