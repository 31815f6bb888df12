"""`m2hf export`: write features for other tools."""

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
    """Write features of videos as plain arrays, and a provenance.json.

    An EMPTY video has an array without rows, a missing one has no array; provenance.json lists both
    with the reason.
    """
    from dataclasses import asdict

    from m2hf.exchange.exporting import PROVENANCE, export_streams
    from m2hf.keys import canonical_json
    from m2hf.manifest import Manifest, shortened

    made = export_streams(Manifest.load(manifest), store, stream or [], form, out)
    if json:
        typer.echo(canonical_json({name: asdict(report) for name, report in made.items()}))
        return
    for report in made.values():
        typer.echo(
            f"{report.stream}: {report.ok} videos of width {report.width} ({report.dtype}), "
            f"{len(report.empty)} empty, {len(report.missing)} missing"
        )
        for what, ids in (("empty", report.empty), ("missing", report.missing)):
            if ids:
                typer.echo(f"  {what}: {shortened(list(ids))} (reasons: {PROVENANCE})")
        for flag in report.flags:
            typer.echo(f"  flag, to be repeated with every result: {flag}")
    typer.echo(f"wrote {out}")
