"""`m2hf demo`: the whole job on a data set that m2hf generates, by the commands a user types."""

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import extract, fuse, manifest, options, report, tables
from m2hf.errors import EXIT_FAILURES
from m2hf.fuse.run_folder import RunFolder

RECIPE = Path("demo")  # pipelines/recipes/demo.toml
ASKED = "a dog barks while the sign says OPEN"


@dataclass(frozen=True)
class _Run:
    """A run of the demo: its folder, its settings on top of the recipe, and what its rows show."""

    folder: str
    settings: tuple[str, ...]
    shows: str


RUNS = (
    _Run(
        "zero_shot",
        ("fuse.train.epochs=0",),
        "nothing is trained: CLIP's frames find clips that look alike and guess among them, and "
        "words that are read or heard tell some apart",
    ),
    _Run(
        "ensemble",
        ("fuse.strategy=ensemble",),
        "each level is trained alone and finds what only it can: see its column by kind of "
        "caption; late_fusion is all of them",
    ),
    _Run(
        "end_to_end",
        (),
        "one model for all levels, with the balance loss `mixture`: a level need answer only what "
        "it can",
    ),
    _Run(
        "sum_of_losses",
        ("fuse.balance.form=none",),
        "the same with the sum of the levels' own losses, which trains each on all captions",
    ),
)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to work in.")] = Path("demo"),
    clips: Annotated[int, typer.Option("--clips", help="How many clips.")] = options.TOYBOX_CLIPS,
    seed: Annotated[int, typer.Option("--seed", help="Another data set.")] = 0,
    workers: options.Workers = 2,
) -> None:
    """Generate clips, extract every modality, train the fusion, and print the table. Offline."""
    began = time.monotonic()
    rows, shards = generate(out, clips, seed, workers)
    for run in RUNS:
        _train(run, rows, shards, out / run.folder)
    similarities = [f"{run.folder}={out / run.folder / 'similarity.h5'}" for run in RUNS]
    kinds = out / "kinds.csv"
    _command(f"tables {' '.join(map(shlex.quote, similarities))} --kinds {_quoted(kinds)}")
    tables.tables(similarities, kinds=kinds)
    for suffix in (".md", ".csv", ".html"):
        tables.tables(similarities, out=out / f"table{suffix}", kinds=kinds)
    for run in RUNS:
        typer.echo(f"{run.folder}: {run.shows}")
    shown = out / "ensemble"
    _command(f"report {_trained(rows, shards, shown)} --kinds {_quoted(kinds)}")
    report.report(rows, shards, shown, kinds=kinds)
    _say(f"done in {time.monotonic() - began:.0f} s; everything is in {out}")
    typer.echo(f"\n  m2hf search {shlex.quote(ASKED)} {_trained(rows, shards, shown)}")
    typer.echo(_NEXT)


def generate(out: Path, clips: int, seed: int, workers: int) -> tuple[Path, Path]:
    """Generate clips in `out` and extract every modality; returns the manifest and the store."""
    rows, shards = out / "manifest", out / "store"
    paths = (
        f"--manifest {_quoted(rows)} --media {_quoted(out / 'videos')} --store {_quoted(shards)}"
    )
    size = f"--clips {clips} --seed {seed}"
    _command(f"manifest toybox --out {_quoted(out)} {size} --store {_quoted(shards)}")
    manifest.toybox(out, clips, seed, store=shards)
    _command(f"extract {paths} --workers {workers} --config {RECIPE}")
    try:
        extract.extract(
            options.JobOptions(rows, out / "videos", shards, config=RECIPE),
            options.ExecutorOptions(workers=workers),
        )
    except typer.Exit as end:
        if end.exit_code != EXIT_FAILURES:
            raise
    return rows, shards


def _train(run: _Run, rows: Path, shards: Path, folder: Path) -> None:
    where = _trained(rows, shards, folder)
    sets = "".join(f" --set {setting}" for setting in run.settings)
    again = RunFolder(folder).finished  # by an earlier demo in the same folder
    _command(f"train {where} --config {RECIPE}{sets}{' --overwrite' if again else ''}")
    fuse.train(rows, shards, folder, RECIPE, list(run.settings), overwrite=again)
    _command(f"eval {where}")
    fuse.evaluate(rows, shards, folder)


def _trained(rows: Path, shards: Path, folder: Path) -> str:
    return f"--manifest {_quoted(rows)} --store {_quoted(shards)} --run {_quoted(folder)}"


_NEXT = """
searches them. The CLIP model here is a tiny one, trained on scenes like those of these clips and
nothing else (docs/m2hf-tiny.md). With your own videos, and CLIP weights:

  m2hf manifest from-folder VIDEOS --captions captions.csv --out MANIFEST   # id,caption[,split]
  m2hf plan    --manifest MANIFEST --media VIDEOS --store STORE
  m2hf extract --manifest MANIFEST --media VIDEOS --store STORE --workers 2
  m2hf train   --manifest MANIFEST --store STORE --run RUN
  m2hf eval    --manifest MANIFEST --store STORE --run RUN
  m2hf tables  RUN/similarity.h5 --out table.md
"""


def _command(line: str) -> None:
    _say(f"$ m2hf {line}")


def _say(line: str) -> None:
    typer.secho(f"\n{line}", bold=True)
    sys.stdout.flush()


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
