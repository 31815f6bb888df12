"""`python -m benchmarks.timing`: does a head of the audio-visual level align sound with frames?

Trains that level alone on the toybox's timing set, with each early fusion and with true, permuted
and zero times, and the visual level alone; prints R@1 among twins on test. Weights are chosen on
val.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from benchmarks.levels.report import machine, spread
from benchmarks.timing.among_twins import families, recall_among_twins
from benchmarks.timing.times import PERMUTED, TRUE, ZERO, with_times
from m2hf.atomic import atomic_text
from m2hf.cli import extract, manifest, options
from m2hf.cli.demo import RECIPE
from m2hf.cli.recipe import load_recipe
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.level_table import FRAMES, Level
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.training.run import train
from m2hf.manifest import Manifest

VISUAL, AUDIO_VISUAL = "visual", "audio_visual"
NO_HEADS = ("none", "words")  # what a level may be that doesn't fuse frames early
FUSIONS = get_args(Level.model_fields["fusion"].annotation)
HEADS = [fusion for fusion in FUSIONS if fusion not in NO_HEADS]
CLIPS = 1280
WINDOW = "extract.logmel.window_s=0.5"  # none is in both halves of a clip


@dataclass(frozen=True)
class TimingRow:
    """A line of the table: the only level that is trained, its early fusion, and the times."""

    level: str
    head: str
    times: str

    @property
    def name(self) -> str:
        """As in the table and the JSON."""
        return self.level if self.level == VISUAL else f"{self.head}, times {self.times}"

    def config(self, seed: int, more: Sequence[str]) -> FusionConfig:
        """The demo's recipe for this level alone."""
        head = [f"fuse.levels.{self.level}.fusion={self.head}"] if self.head else []
        settings = [*head, f"fuse.train.seed={seed}", *more]
        return load_recipe(RECIPE, settings)[0].fuse.only(self.level)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, write the JSON after each row."""
    given = _parser().parse_args(arguments)
    todo = [TimingRow(AUDIO_VISUAL, head, t) for head in given.heads for t in given.times]
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or _make(Path(folder) / "data", given.clips, given.workers)
        for row in [*todo, TimingRow(VISUAL, "", TRUE)]:
            found[row.name] = []
            for recall in measure(row, data, given.seeds, given.set, Path(folder) / row.name):
                found[row.name].append(round(recall, 3))
            print(f"| {row.name} | {spread(found[row.name])} |", flush=True)
            if given.json is not None:
                about = {"machine": machine(), "date": datetime.now(UTC).isoformat("T", "seconds")}
                atomic_text(given.json, json.dumps({"rows": found} | about, indent=1) + "\n")
    return 0


def measure(
    row: TimingRow, data: Path, seeds: int, more: Sequence[str], place: Path
) -> Iterator[float]:
    """R@1 among twins in percent of a training with each seed; data: a folder with `manifest` and
    `store`; place: a folder to work in."""
    rows = Manifest.load(data / "manifest")
    streams = row.config(0, more).streams
    store = with_times(
        data / "store",
        rows.card.name,
        row.times,
        streams[FRAMES],
        streams["audio"],
        place / "store",
    )
    for seed in range(seeds):
        run = place / f"seed{seed}"
        train(rows, store, run, row.config(seed, more))
        file = SimilarityFile.read(evaluate(rows, store, run))
        family_V = families(rows.rows, file.video_ids)
        yield recall_among_twins(file.scores[row.level], file.video_of_query, family_V)


def _make(out: Path, clips: int, workers: int) -> Path:
    """The timing set with the features that are needed."""
    manifest.toybox(out, clips, kind="timing")
    where = (out / "manifest", out / "videos", out / "store")
    job = options.JobOptions(*where, RECIPE, [WINDOW], only="clip,caption,logmel")
    extract.extract(job, options.ExecutorOptions(workers=workers))
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timing", description=__doc__)
    parser.add_argument("--data", type=Path, help="manifest and store of a set, not a new one")
    parser.add_argument("--clips", type=int, default=CLIPS, help="of the new set")
    parser.add_argument("--workers", type=int, default=2, help="as of m2hf extract")
    parser.add_argument("--seeds", type=int, default=5, help="trainings a row")
    parser.add_argument("--heads", nargs="+", default=HEADS, choices=HEADS)
    parser.add_argument("--times", nargs="+", default=[TRUE, PERMUTED, ZERO])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--set", action="append", default=[], help="as of m2hf train")
    return parser


if __name__ == "__main__":
    sys.exit(main())
