"""`m2hf sweep`: a grid of runs over one store, and one table of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2hf.cli import options
from m2hf.errors import EXIT_FAILURES, UsageError
from m2hf.manifest import Split

if TYPE_CHECKING:
    from m2hf.fuse.sweep.processes import Runner
    from m2hf.fuse.sweep.results import SweepResults
    from m2hf.fuse.sweep.runs import SweepRun


def sweep(
    grid: Annotated[
        Path,
        typer.Argument(help="Grid: a TOML file, or the name of one that ships with m2hf."),
    ],
    manifest: options.ManifestDir,
    store: options.Store,
    out: Annotated[Path, typer.Option("--out", help="Folder of the sweep.")],
    config: options.Config = None,
    set_: options.Set = None,
    split: Annotated[Split, typer.Option("--split", help="Split to score.")] = "test",
    workers: Annotated[
        int,
        typer.Option("--workers", min=0, help="Worker processes; 0: work in this process."),
    ] = 0,
    scheduler: options.Scheduler = "",
) -> None:
    """Train and score every cell of GRID with every seed, and print one table.

    Run it again to resume: what is done is kept. DIR/runs has a folder for each run; sweep.md, .csv
    and .json have a row for each cell, table.md and .html every number. Exit code 3: complete, but
    for runs that failed.
    """
    from m2hf.cli.recipe import recipe_data, shipped_file
    from m2hf.fuse.sweep.grid_file import GridFile
    from m2hf.fuse.sweep.results import SweepResults
    from m2hf.fuse.sweep.runs import plan
    from m2hf.fuse.sweep.sweep import Sweep
    from m2hf.manifest import Manifest

    if workers and scheduler:
        raise UsageError("--workers and --scheduler exclude each other; give one")
    with shipped_file("GRID", grid, "grid") as path:
        cells = GridFile.read(path)
    work = Sweep(manifest, store, out, split)
    with work.locked():
        planned = plan(cells, recipe_data(config, set_), Manifest.load(manifest), store, out)
        for name, reason in planned.impossible.items():
            typer.echo(f"impossible: {name}: {reason}", err=True)
        missing = work.missing(planned)
        typer.echo(
            f"{len(planned.runs)} cells x {len(cells.seeds)} seeds: "
            f"{len(list(planned.unique()))} runs, {len(missing)} to do",
            err=True,
        )
        ended: list[str] = []

        def show(run: "SweepRun", error: str) -> None:
            ended.append(error)
            done = f"failed: {error}" if error else "done"
            typer.echo(f"[{len(ended)}/{len(missing)}] {run}: {done}", err=True)

        failed = work.run(missing, _runner(workers, scheduler), show)
        results = SweepResults.of(planned, failed, cells.base)
        _write(results, out)
    if results.lacking:
        raise typer.Exit(EXIT_FAILURES)


def _write(results: "SweepResults", out: Path) -> None:
    from m2hf.atomic import atomic_text
    from m2hf.fuse.sweep import formats
    from m2hf.fuse.tables.formats import render

    atomic_text(out / "sweep.csv", formats.csv_text(results))
    atomic_text(out / "sweep.json", formats.json(results))
    for suffix in (".md", ".html"):
        atomic_text(out / f"table{suffix}", render(results.table, suffix))
    text = formats.markdown(results)
    atomic_text(out / "sweep.md", text)
    typer.echo(text, nl=False)
    typer.echo(f"wrote {out / 'sweep.md'}, sweep.csv, sweep.json, table.md and table.html")


def _runner(workers: int, scheduler: str) -> "Runner":
    from m2hf.fuse.sweep.job import answer
    from m2hf.fuse.sweep.processes import WorkerProcesses, in_this_process

    if scheduler:
        from m2hf.pipelines.cluster.calls import DaskCalls

        return DaskCalls(scheduler, answer)
    return WorkerProcesses(workers) if workers else in_this_process
