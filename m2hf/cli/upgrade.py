"""`m2hf upgrade`: shards of older versions in the present one."""

import typer

from m2hf.cli import options
from m2hf.errors import EXIT_FAILURES


def upgrade(store: options.Store, json: options.Json = False) -> None:
    """Write shards of older versions again in the present one, after a check of every item.

    Damaged shards are named and left as they are; exit code 3 where there are some.
    """
    from m2hf.keys import canonical_json
    from m2hf.upgrade import upgrade_store

    results = list(upgrade_store(store))
    written = sum(again for _, again, _ in results)
    damaged = [
        {"shard": str(path.relative_to(store)), "message": why} for path, _, why in results if why
    ]
    if json:
        counts = {"shards": len(results), "upgraded": written, "damaged": damaged}
        typer.echo(canonical_json(counts))
    else:
        for entry in damaged:
            typer.echo(entry["message"])
        typer.echo(f"{len(results)} shards, {written} upgraded, {len(damaged)} shards damaged")
        if written:
            typer.echo(
                "similarity files name the sha256 of the shards: `m2hf trace --store` calls them "
                "different until `m2hf eval` is run again"
            )
    if damaged:
        raise typer.Exit(EXIT_FAILURES)
