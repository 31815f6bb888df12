"""`python -m benchmarks.toybox --data DIR`: the demo's runs over several seeds, by kind of caption.

DIR is what `m2hf demo --out DIR` made. A kind says what it takes to find the clip (see
m2hf.data_manifests.toybox.families): look is seen, the others name one thing more. Numbers are
T2V R@1 in percent, the mean over training seeds and their deviation. Q queries.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2hf.cli.demo import RECIPE, RUNS
from m2hf.cli.recipe import load_recipe
from m2hf.fuse.evaluate import evaluate
from m2hf.fuse.metrics import t2v_ranks
from m2hf.fuse.similarity import SimilarityFile
from m2hf.fuse.train import train
from m2hf.manifest import Manifest, captions_of

ALL = "all"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toybox", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="as of m2hf train")
    given = parser.parse_args(arguments)
    manifest = Manifest.load(given.data / "manifest")
    kinds = _kinds(given.data / "scenes.json", manifest)
    found: dict[str, list[Mapping[str, float]]] = {}
    for run in RUNS:
        once = "fuse.train.epochs=0" in run.settings  # nothing is drawn, so no seed matters
        for seed in range(1 if once else given.seeds):
            settings = [*run.settings, f"fuse.train.seed={seed}", *given.set]
            config = load_recipe(RECIPE, settings)[0].fuse
            with tempfile.TemporaryDirectory() as folder:
                train(manifest, given.data / "store", Path(folder), config)
                path = evaluate(manifest, given.data / "store", Path(folder))
                for name, recall in _recalls(SimilarityFile.read(path), kinds).items():
                    found.setdefault(f"{run.folder}: {name}", []).append(recall)
    print(_table(found, kinds))
    return 0


def _kinds(truth: Path, manifest: Manifest) -> dict[str, str]:
    """Caption id of the test split -> kind."""
    clips = json.loads(truth.read_text(encoding="utf-8"))["clips"]
    asked = {clip["id"]: [caption["kind"] for caption in clip["captions"]] for clip in clips}
    return {
        caption.id: asked[caption.video][int(caption.id.rpartition("#")[2])]
        for caption in captions_of(manifest.split("test"))
    }


def _recalls(file: SimilarityFile, kinds: Mapping[str, str]) -> dict[str, Mapping[str, float]]:
    """Level, or late_fusion -> kind -> R@1."""
    kind_Q = np.array([kinds[query] for query in file.query_ids])
    return {
        name: {
            kind: _recall(scores, file.video_of_query, (kind_Q == kind) | (kind == ALL))
            for kind in _order(kinds)
        }
        for name, scores in file.scores.items()
    }


def _recall(
    scores_QV: NDArray[np.float32], answers_Q: NDArray[np.int64], asked_Q: NDArray[np.bool_]
) -> float:
    return t2v_ranks(scores_QV[asked_Q], answers_Q[asked_Q]).recall(1).expected


def _order(kinds: Mapping[str, str]) -> list[str]:
    return [*dict.fromkeys(sorted(kinds.values())), ALL]


def _table(found: Mapping[str, Sequence[Mapping[str, float]]], kinds: Mapping[str, str]) -> str:
    counts = {kind: sum(k == kind or kind == ALL for k in kinds.values()) for kind in _order(kinds)}
    lines = [
        "| run: scores | " + " | ".join(f"{kind} ({n})" for kind, n in counts.items()) + " |",
        "|---|" + "---:|" * len(counts),
    ]
    for name, seeds in found.items():
        cells = []
        for kind in counts:
            values = [recall[kind] for recall in seeds]
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.1f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
