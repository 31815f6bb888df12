"""`m2hf trace`: the inputs that a number in a table was computed from."""

from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import options
from m2hf.errors import EXIT_FAILURES


def trace(
    table: Annotated[Path, typer.Argument(help="A table that `m2hf tables --out` wrote.")],
    row: Annotated[str, typer.Argument(help="Name of a row, such as late_fusion.")],
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Folder of a run, to compare; repeatable."),
    ] = None,
    store: Annotated[Path | None, typer.Option("--store", help="Store, to compare.")] = None,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", help="Manifest folder, to compare.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Print the chain from a number to similarity file, checkpoint, shards, config and weights.

    With --run, --store or --manifest, compare these files with the chain; the exit code is 3 if
    any of them differs.
    """
    from dataclasses import asdict

    from m2hf.fuse.tables.chain import TraceFiles
    from m2hf.fuse.tables.records import json_text
    from m2hf.fuse.tables.trace import Trace

    found = Trace.of(table, row)
    checked = found.check(TraceFiles(tuple(run or ()), store, manifest))
    if json:
        typer.echo(json_text({**asdict(found), "same": checked}), nl=False)
    else:
        for line in found.lines(checked):
            typer.echo(line)
    if not all(same for run in checked for same in run.values()):
        raise typer.Exit(EXIT_FAILURES)
