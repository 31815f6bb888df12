"""`m2hf trace`: the inputs that a number in a table was computed from."""

from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import options
from m2hf.cli.project import NOTHING, FromProject
from m2hf.errors import EXIT_FAILURES


def trace(
    table: Annotated[Path, typer.Argument(help="A table that `m2hf tables --out` wrote.")],
    row: Annotated[str, typer.Argument(help="Name of a row, such as late_fusion.")],
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Folder or similarity file of a run, to compare; repeatable."),
    ] = None,
    store: Annotated[Path | None, typer.Option("--store", help="Store, to compare.")] = None,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", help="Manifest folder, to compare.")
    ] = None,
    kinds: options.Kinds = None,
    json: options.Json = False,
    project: FromProject = NOTHING,
) -> None:
    """Print the chain from a number to similarity file, checkpoint, shards, config and weights.

    With --run for each run of the row, compute its numbers again from RUN/similarity.h5, and
    compare what the table prints and what it records; give --kinds, if the table was made with it.
    With --run, --store or --manifest, compare these files with the chain. The exit code is 3 if
    anything differs. The run, store and manifest of a project are compared with a row of one run.
    """
    from dataclasses import asdict

    from m2hf.fuse.tables.chain import TraceFiles
    from m2hf.fuse.tables.records import json_text
    from m2hf.fuse.tables.trace import Trace

    traced = Trace.of(table, row)
    apart = project.names if len(traced.runs) != 1 else ()
    runs = () if "run" in apart else tuple(run or ())
    comparison = traced.compare(runs, kinds)
    found = comparison.trace
    files = TraceFiles(
        runs, None if "store" in apart else store, None if "manifest" in apart else manifest
    )
    checked = found.check(files)
    if json:
        record = {"records": found.records, "place": found.place, "chain": found.chain}
        differences = [asdict(each) for each in comparison.differences]
        again = {"recomputed": not comparison.reason, "differences": differences}
        typer.echo(json_text({**record, "same": checked, **again}), nl=False)
    else:
        for line in (*found.lines(checked), *comparison.lines()):
            typer.echo(line)
    if comparison.differences or not all(same for of in checked for same in of.values()):
        raise typer.Exit(EXIT_FAILURES)
