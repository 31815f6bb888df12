"""`python -m benchmarks.real --data FOLDER`: ridge, a two-tower and the fusion on real features.

FOLDER has a manifest (or one for each fold), streams and captions, as of `m2hf import`: see
benchmarks/real/folder.py. Everything is chosen on validation and scored on test, once. The JSON is
written after each run.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.real.folder import FeatureFolder
from benchmarks.real.report import as_json, markdown
from benchmarks.real.run import Fold, Run, measure
from m2hf.atomic import atomic_text
from m2hf.errors import M2hfError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 if a training failed (its cells are of the other runs)."""
    given = _parser().parse_args(arguments)
    try:
        return _run(given)
    except M2hfError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _run(given: argparse.Namespace) -> int:
    folder = FeatureFolder.of(given.data, given.frames)
    configs = [folder.config(seed, given.shared, given.set) for seed in range(given.seeds)]
    print(f"frames: {folder.frames}, of {', '.join(folder.streams)}", file=sys.stderr)
    runs: list[Run] = []
    results: dict[str, Any] = {}
    for path in folder.manifests:
        name = path.relative_to(given.data).as_posix()
        with tempfile.TemporaryDirectory() as place:
            fold = Fold(folder, path, Path(place))
            for stream, count in fold.skipped.items():
                print(f"{name}: {count} {stream} of ids that it lacks, skipped", file=sys.stderr)
            for config, rows in zip(configs, measure(fold, configs), strict=True):
                runs.append(Run(name, config.train.seed, fold.test_videos, rows))
                print(f"{name}, seed {config.train.seed}: done", file=sys.stderr)
                results = as_json(given.data.resolve().name, runs)
                if given.json is not None:
                    atomic_text(given.json, json.dumps(results, indent=1) + "\n")
    print(markdown(results), end="")
    failed = sorted({o.failed for run in runs for o in run.rows.values() if o.failed})
    for message in failed:
        print(f"failed: {message}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=_positive, default=3, help="trainings for each manifest")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument(
        "--frames", default="", metavar="NAME", help="stream of the frames, if not found by name"
    )
    parser.add_argument(
        "--shared",
        action="append",
        default=[],
        metavar="NAME",
        help="a stream in the space of the captions, which needs no projection",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="setting of every training"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
