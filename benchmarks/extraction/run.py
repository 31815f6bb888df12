"""`python -m benchmarks.extraction.run --clips DIR`: whole runs of `m2hf extract` on real clips.

One process, then two, into separate stores that must be byte-identical; then each extractor in a
run of its own, where a clip is decoded once for each extractor. With --recipe, instead: the default
settings beside those of a recipe, one process each, after a run without clips that measures
precisions. Time spent is read from the ledger of a run;
wall time and processor time include starting Python and loading models. Weights of CLIP, AST and
R(2+1)D are random: time is that of trained ones.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2hf.layout import StoreLayout
from m2hf.ledger import DECODE
from m2hf.manifest import Manifest
from m2hf.pipelines.run_times import RunTimer, RunTimes
from m2hf.streams import extractor_of

M2HF = str(Path(sys.executable).with_name("m2hf"))
NO_SHARE = "262143/262144"  # of an array job: no bucket, so that only precisions are measured
RANDOM = tuple(f"extract.{name}.pretrained=''" for name in ("encoder", "audio", "motion"))


@dataclass(frozen=True)
class ClipFolder:
    """A folder of clips, and in `folder` their manifest with one caption each, and stores."""

    folder: Path
    media: Path
    settings: tuple[str, ...]

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest"

    def make(self) -> None:
        captions = self.folder / "captions.csv"
        with captions.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "caption"])
            rows.writerows([p.stem, "what happens here"] for p in sorted(self.media.glob("*.mp4")))
        _m2hf(
            *("manifest", "from-folder", str(self.media)),
            *("--captions", str(captions), "--out", str(self.manifest)),
        )

    def extract(self, store: str, only: str, *options: str) -> RunTimes:
        """Extract into a store; returns the time that was spent."""
        root = self.folder / store
        sets = [part for one in self.settings for part in ("--set", one)]
        timer = RunTimer(StoreLayout(root, Manifest.load(self.manifest).card.name).ledger)
        began = time.perf_counter()
        _m2hf(
            *("extract", "--manifest", str(self.manifest), "--media", str(self.media)),
            *("--store", str(root), "--only", only, *sets, *options),
        )
        return timer.read(time.perf_counter() - began)

    def shards(self, store: str) -> dict[str, bytes]:
        root = self.folder / store
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.h5"))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print Markdown tables and the numbers as JSON; exit code 1 if bytes differ."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extraction.run", description=__doc__
    )
    parser.add_argument("--clips", type=Path, required=True, help="a folder of .mp4 files")
    parser.add_argument("--only", default="clip,caption,audio,motion,ocr,asr,text")
    parser.add_argument("--set", action="append", default=[], help="as of m2hf extract")
    parser.add_argument("--alone", action="store_true", help="also each extractor alone")
    parser.add_argument("--recipe", help="compare with this recipe")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        corpus = ClipFolder(Path(folder), given.clips.absolute(), (*RANDOM, *given.set))
        corpus.make()
        if given.recipe:
            return _compare(corpus, given.only, given.recipe)
        runs = {"1 process": corpus.extract("one", given.only)}
        runs["2 workers"] = corpus.extract("two", given.only, "--workers", "2")
        equal = corpus.shards("one") == corpus.shards("two")
        if given.alone:
            for name in given.only.split(","):
                runs[f"{name} alone"] = corpus.extract("alone", name)
            equal &= corpus.shards("one") == corpus.shards("alone")
    print(_runs_table(runs))
    print()
    print(_extractors_table(runs["1 process"]))
    print(f"\nequal to the byte: {'yes' if equal else 'NO'}\n")
    print(json.dumps({name: _plain(run) for name, run in runs.items()} | {"equal": equal}))
    return 0 if equal else 1


def _compare(corpus: ClipFolder, only: str, recipe: str) -> int:
    """Print seconds by extractor of the default settings and of a recipe, as Markdown and JSON."""
    runs: dict[str, RunTimes] = {}
    processor: dict[str, float] = {}
    starting_s: dict[str, float] = {}
    for name, options in (("default", ()), (recipe, ("--config", recipe))):
        before = _processor_s()
        corpus.extract(name, only, *options, "--array", NO_SHARE)
        starting_s[name] = _processor_s() - before
        before = _processor_s()
        runs[name] = corpus.extract(name, only, *options)
        processor[name] = _processor_s() - before
    seconds = {
        name: {extractor_of(stream): spent.wall_s for stream, (_, spent) in run.spent.items()}
        | {"all models": run.model_s, "processor": processor[name], "wall": run.wall_s}
        | {"processor, a run without clips before": starting_s[name]}
        for name, run in runs.items()
    }
    print(f"| seconds | default | {recipe} | of default |\n|---|---:|---:|---:|")
    for part, default_s in seconds["default"].items():
        other_s = seconds[recipe][part]
        print(f"| {part} | {default_s:.1f} | {other_s:.1f} | {other_s / default_s:.2f} |")
    print(json.dumps(seconds))
    return 0


def _processor_s() -> float:
    """Processor seconds of all processes that have ended, user and kernel."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _m2hf(*arguments: str) -> None:
    subprocess.run([M2HF, *arguments], check=True, stdout=subprocess.DEVNULL)


def _runs_table(runs: dict[str, RunTimes]) -> str:
    first = next(iter(runs.values()))
    lines = [
        "| run | wall s | models s | wall x processes / models | speed-up |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, run in runs.items():
        lines.append(
            f"| {name} | {run.wall_s:.1f} | {run.model_s:.1f} | {run.overhead_ratio:.2f} "
            f"| {first.wall_s / run.wall_s:.2f} |"
        )
    return "\n".join(lines)


def _extractors_table(run: RunTimes) -> str:
    lines = [
        "| extractor | items | seconds | in models | ratio | share of model time |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for stream, (items, spent) in sorted(run.spent.items()):
        name = extractor_of(stream)
        times = f"{spent.wall_s / spent.model_s:.2f}" if spent.model_s else ""
        share = "" if name == DECODE else f"{spent.model_s / run.model_s:.0%}"
        lines.append(
            f"| {name} | {items} | {spent.wall_s:.1f} | {spent.model_s:.1f} | {times} | {share} |"
        )
    return "\n".join(lines)


def _plain(run: RunTimes) -> dict[str, object]:
    spent = {
        extractor_of(stream): [items, round(s.wall_s, 3), round(s.model_s, 3)]
        for stream, (items, s) in run.spent.items()
    }
    return {
        "wall_s": run.wall_s,
        "processes": run.processes,
        "ratio": run.overhead_ratio,
        "spent": spent,
    }


if __name__ == "__main__":
    sys.exit(main())
