"""`m2hf report`: an HTML report of a run."""

from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import options


def report(
    manifest: options.ManifestDir,
    store: options.Store,
    run: options.Run,
    similarity: Annotated[
        Path | None,
        typer.Option("--similarity", help="Similarity file; default: RUN/similarity.h5."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Page to write; default: RUN/report.html.")
    ] = None,
    kinds: options.Kinds = None,
) -> None:
    """Write one HTML file: the table, training curves, the contribution of each level and modality,
    and queries with their top-ranked videos, the worst failures first."""
    from m2hf.atomic import atomic_text
    from m2hf.fuse.report.page import page
    from m2hf.fuse.report.source import ReportSource
    from m2hf.fuse.run_folder import RunFolder
    from m2hf.fuse.tables.kinds import QueryKinds
    from m2hf.manifest import Manifest

    source = ReportSource.open(Manifest.load(manifest), store, run, similarity)
    path = out or RunFolder(run).report
    atomic_text(path, page(source, None if kinds is None else QueryKinds.read(kinds)))
    for remark in source.remarks:
        typer.echo(remark)
    for name, flags in source.flags.items():
        typer.echo(f"{name}: {', '.join(flags)}")
    typer.echo(f"wrote {path}")
