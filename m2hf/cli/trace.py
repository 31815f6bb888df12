"""`m2hf trace`: what a number in a table was made from."""

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

    With --run, --store or --manifest it says what still is what the number came from, and ends
    with 3 where something differs.
    """
    from dataclasses import asdict

    from m2hf.fuse.tables.chain import Files
    from m2hf.fuse.tables.records import json_text
    from m2hf.fuse.tables.trace import Trace

    found = Trace.of(table, row)
    checked = found.check(Files(tuple(run or ()), store, manifest))
    if json:
        typer.echo(json_text({**asdict(found), "same": checked}), nl=False)
    else:
        for line in found.lines(checked):
            typer.echo(line)
    if not all(same for of in checked for same in of.values()):
        raise typer.Exit(EXIT_FAILURES)
