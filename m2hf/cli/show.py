"""`m2hf show`: the features of one video on a timeline."""

from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import options
from m2hf.cli.project import NOTHING, FromProject
from m2hf.errors import EXIT_FAILURES, UsageError


def show(
    names: Annotated[
        list[str],
        typer.Argument(metavar="[STORE] ID", help="Folder of the shards, and id of the video."),
    ],
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder of the feature shards, if not before ID.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", help="Manifest folder: captions and paths.")
    ] = None,
    media: Annotated[
        Path | None,
        typer.Option("--media", help="Root folder of the video files, for thumbnails in --html."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Page to write.")] = None,
    json: options.Json = False,
    project: FromProject = NOTHING,
) -> None:
    """Print windows, strings and outcomes of one video in every stream.

    --html writes a page; with --manifest and --media it has thumbnails and a spectrogram; exit
    code 3 where the file can't be decoded.
    """
    from m2hf.atomic import atomic_text
    from m2hf.keys import canonical_json
    from m2hf.layout import StoreLayout
    from m2hf.manifest import Manifest
    from m2hf.pipelines.timeline.page import page
    from m2hf.pipelines.timeline.preview import Preview
    from m2hf.pipelines.timeline.text import lines
    from m2hf.pipelines.timeline.timeline import Timeline

    place, video = _place_and_video(names, store, project)
    if html is None and "media" in project:
        media = None
    if media is not None and (html is None or manifest is None):
        raise UsageError(
            "--media is for the thumbnails of --html and needs --manifest for the video's path"
        )
    if media is not None and not media.is_dir():
        raise UsageError(f"--media {media}: no such folder; give the root of the video files")
    loaded = None if manifest is None else Manifest.load(manifest)
    rows = {} if loaded is None else loaded.by_id
    layout = StoreLayout.open(place, "" if loaded is None else loaded.card.name)
    timeline = Timeline.read(layout, video, rows.get(video), rows)
    if media is not None and timeline.row is None:
        raise UsageError(f"--manifest {manifest}: no video {video!r}, so no path under --media")
    preview = None
    if media is not None and timeline.row is not None:
        preview = Preview.of(media, timeline.row, timeline.frames)
    if html is not None:
        atomic_text(html, page(timeline, preview))
    if json:
        typer.echo(canonical_json(timeline.as_json()))
    elif html is None:
        for line in lines(timeline):
            typer.echo(line)
    else:
        typer.echo(f"wrote {html}")
    if preview is not None and preview.error:
        typer.echo(f"m2hf: {video}: no thumbnails: {preview.error}", err=True)
        raise typer.Exit(EXIT_FAILURES)


def _place_and_video(
    names: list[str], store: Path | None, project: FromProject
) -> tuple[Path, str]:
    """The store and the id that `show [STORE] ID` names."""
    if len(names) == 2 and (store is None or "store" in project):
        return Path(names[0]), names[1]
    if len(names) == 1 and store is not None:
        return store, names[0]
    raise UsageError(
        "show needs a store and the id of one video: show STORE ID, or show ID with --store or in "
        "the folder of a project"
    )
