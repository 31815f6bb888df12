"""`m2hf demo`: the whole job on a data set that m2hf generates, by the commands a user types."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import extract, fuse, manifest, options, tables
from m2hf.errors import EXIT_FAILURES

RECIPE = Path("demo")  # pipelines/recipes/demo.toml


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to work in.")] = Path("demo"),
    clips: Annotated[int, typer.Option("--clips", min=12, help="How many clips.")] = 60,
    seed: Annotated[int, typer.Option("--seed", help="Another data set.")] = 0,
    workers: options.Workers = 2,
) -> None:
    """Generate clips, extract every modality, train the fusion, and print the table. Offline."""
    from m2hf.data_manifests.shapes.corpus import generate

    began = time.monotonic()
    videos, captions = out / "videos", out / "captions.csv"
    shards, run = out / "store", out / "run"
    rows = out / "manifest"
    _say(f"generating {clips} clips with captions in {out}")
    generate(out, clips, seed)
    paths = f"--manifest {_quoted(rows)} --media {_quoted(videos)} --store {_quoted(shards)}"
    trained = f"--manifest {_quoted(rows)} --store {_quoted(shards)} --run {_quoted(run)}"

    written = f"--captions {_quoted(captions)} --out {_quoted(rows)} --name shapes"
    _command(f"manifest from-folder {_quoted(videos)} {written}")
    manifest.from_folder(videos, captions, rows, name="shapes")
    _command(f"extract {paths} --workers {workers} --config demo")
    try:
        extract.extract(rows, videos, shards, config=RECIPE, workers=workers)
    except typer.Exit as end:
        if end.exit_code != EXIT_FAILURES:
            raise
    _command(f"train {trained} --config demo")
    fuse.train(rows, shards, run, config=RECIPE)
    _command(f"eval {trained}")
    fuse.evaluate(rows, shards, run)
    similarity = run / "similarity.h5"
    _command(f"tables {_quoted(similarity)}")
    tables.tables([similarity])
    for suffix in (".md", ".csv", ".html"):
        tables.tables([similarity], out=out / f"table{suffix}")
    _say(f"done in {time.monotonic() - began:.0f} s; everything is in {out}")
    typer.echo(_NEXT)


_NEXT = """
The CLIP model here is a tiny one with random weights ("untrained"): the numbers show that the
parts fit together, not how well they retrieve. With your own videos, and CLIP weights:

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
