"""`m2hf export`: features for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import options


def export(
    manifest: options.ManifestDir,
    store: options.Store,
    out: Annotated[Path, typer.Option("--out", help="New folder to write.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="npz (as `import` reads it), wds (WebDataset tars), or arrow."
        ),
    ],
    stream: Annotated[
        list[str] | None,
        typer.Option("--stream", metavar="NAME", help="A stream of the store; may be repeated."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Write features of videos as plain arrays, with a provenance.json beside them.

    A video that is EMPTY has an array of no rows; one that is missing has none. Both are named,
    with the reason.
    """
    from dataclasses import asdict

    from m2hf.exchange.exporting import PROVENANCE, export_streams
    from m2hf.keys import canonical_json
    from m2hf.manifest import Manifest, shortened

    made = export_streams(Manifest.load(manifest), store, stream or [], form, out)
    if json:
        typer.echo(canonical_json({name: asdict(told) for name, told in made.items()}))
        return
    for told in made.values():
        typer.echo(
            f"{told.stream}: {told.ok} videos of width {told.width} ({told.dtype}), "
            f"{len(told.empty)} empty, {len(told.missing)} missing"
        )
        for what, ids in (("empty", told.empty), ("missing", told.missing)):
            if ids:
                typer.echo(f"  {what}: {shortened(list(ids))} (reasons in {PROVENANCE})")
        for flag in told.flags:
            typer.echo(f"  flagged, and what is made of it must say so: {flag}")
    typer.echo(f"wrote {out}")
