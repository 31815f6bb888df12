"""`m2hf manifest ...`: make and check manifests."""

from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import options
from m2hf.errors import EXIT_FAILURES

app = typer.Typer(help="Make and check manifests.", no_args_is_help=True)


@app.command("from-folder")
def from_folder(
    videos: Annotated[Path, typer.Argument(help="Folder of videos.")],
    captions: Annotated[Path, typer.Option("--captions", help="CSV: id,caption[,split].")],
    out: Annotated[Path, typer.Option("--out", help="Manifest folder to write.")],
    name: Annotated[str, typer.Option("--name", help="Dataset name; default: OUT's.")] = "",
) -> None:
    """Make a manifest from a folder of videos and a CSV of captions.

    An id is a file name without its ending. Without a split column, ids are split by hash into
    70 % train, 10 % val and 20 % test.
    """
    from m2hf.data_manifests.folder import from_folder as build

    built = build(videos, captions, name or out.resolve().name)
    built.manifest.save(out)
    for split, count in built.manifest.counts().items():
        typer.echo(f"{split}: {count.videos} videos, {count.captions} captions")
    if built.split_by_hash:
        typer.echo("no split column: split by hash of the id, 70/10/20")
    if built.without_captions:
        typer.echo(
            f"{len(built.without_captions)} videos have no caption: "
            + ", ".join(built.without_captions[:10])
            + (", ..." if len(built.without_captions) > 10 else "")
        )
    typer.echo(f"wrote {out} ({built.manifest.digest[:8]})")


@app.command()
def check(
    manifest: Annotated[Path, typer.Argument(help="Manifest folder.")],
    media: Annotated[
        Path | None, typer.Option("--media", help="Also look for each video below this folder.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare a manifest with what its card declares; exit code 3 where they differ."""
    from m2hf.keys import canonical_json
    from m2hf.manifest import Manifest

    loaded = Manifest.load(manifest)
    differences = loaded.check(media)
    if json:
        counts = {name: count.model_dump() for name, count in loaded.counts().items()}
        typer.echo(
            canonical_json({"counts": counts, "differences": differences, "digest": loaded.digest})
        )
    else:
        for line in differences:
            typer.echo(line)
        typer.echo(f"{loaded.card.name}: {len(loaded.rows)} videos, {len(differences)} differences")
    if differences:
        raise typer.Exit(EXIT_FAILURES)
