"""`m2hf search | app`: search videos with a trained run or without one, in the terminal or on a
web page."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2hf.cli import options
from m2hf.cli.project import NOTHING, FromProject
from m2hf.manifest import Split

if TYPE_CHECKING:
    from m2hf.fuse.search.results import Hit, MatchedLine, Moment, SearchResults
    from m2hf.fuse.search.searcher import Searcher

SearchedSplit = Annotated[
    Split | None, typer.Option("--split", help="Search only this split; default: all videos.")
]

SearchedRun = Annotated[
    Path | None,
    typer.Option("--run", help="Folder of a training run; without one, search is zero-shot."),
]


def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What the video should show.")],
    manifest: options.ManifestDir,
    store: options.Store,
    run: SearchedRun = None,
    config: options.Config = None,
    set_: options.Set = None,
    split: SearchedSplit = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many videos.")] = 10,
    json: options.Json = False,
    project: FromProject = NOTHING,
) -> None:
    """Rank videos for a sentence, with the best frame, matched text and score of each level.

    The query encoder is that of the training captions, read from their shards; where its weights
    are a checkpoint file, give its path: --set extract.encoder.pretrained=PATH. Without a run, the
    recipe's levels that need no training are searched, and the words that were read and heard.
    """
    from m2hf.fuse.search.query import checked
    from m2hf.keys import canonical_json

    checked(query)  # before anything is loaded
    run, config = _of_project(run, config, project)
    results = _searcher(manifest, store, run, config, set_, split).search(query, top)
    if json:
        typer.echo(canonical_json(results.as_json()))
        return
    for line in _lines(results):
        typer.echo(line)
    for remark in results.remarks:
        typer.echo(f"m2hf: {remark}", err=True)


def app(
    manifest: options.ManifestDir,
    media: options.Media,
    store: options.Store,
    run: SearchedRun = None,
    config: options.Config = None,
    set_: options.Set = None,
    split: SearchedSplit = None,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on; 0.0.0.0: all interfaces, without a password."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = 8000,
    project: FromProject = NOTHING,
) -> None:
    """Serve a search page on this machine, with players that start where a video matches.

    Needs the extras `app`, `extract` and `fuse`. Ctrl-C stops it.
    """
    from m2hf.fuse.search.web.media_files import MediaFiles
    from m2hf.fuse.search.web.serve import bind, is_public, serve
    from m2hf.fuse.search.web.site import Site

    files = MediaFiles.open(media)
    with bind(host, port) as listening:
        if is_public(listening):
            typer.echo(
                f"m2hf: --host {host}: anyone who can reach this machine can search and watch "
                "these videos; there is no password",
                err=True,
            )
        run, config = _of_project(run, config, project)
        searcher = _searcher(manifest, store, run, config, set_, split)
        videos = int(searcher.index.covered_V.sum())
        names = {host, socket.gethostname()} if is_public(listening) else {host}
        page = Site(searcher, files).app(names)
        serve(
            page, listening, lambda url: typer.echo(f"{videos} videos at {url} (Ctrl-C stops it)")
        )


def _of_project(
    run: Path | None, config: Path | None, project: FromProject
) -> tuple[Path | None, Path | None]:
    """The run, None where the project has none yet, and the config for it."""
    from m2hf.fuse.run_folder import RunFolder

    if run is not None and "run" in project and not RunFolder(run).checkpoint.exists():
        run = None
    return run, None if run is not None and "config" in project else config


def _searcher(
    manifest: Path,
    store: Path,
    run: Path | None,
    config: Path | None,
    set_: list[str] | None,
    split: Split | None,
) -> "Searcher":
    from m2hf.cli.query_encoder import query_encoder, untrained_query_encoder
    from m2hf.cli.recipe import layout_of, load_recipe
    from m2hf.extract.caption import CaptionEncoder
    from m2hf.fuse.devices import choose_device
    from m2hf.fuse.search.index import SearchIndex
    from m2hf.fuse.search.searcher import Searcher
    from m2hf.fuse.search.untrained import untrained_index
    from m2hf.manifest import Manifest, captions_of
    from m2hf.streams import extractor_of

    layout = layout_of(manifest, store) if run is None else None
    recipe, section = load_recipe(config, set_, layout)
    loaded = Manifest.load(manifest)
    captions = tuple(c.text for c in captions_of(loaded.rows))
    if run is None:
        index = untrained_index(loaded, store, recipe.fuse, split)
    else:
        given = recipe.fuse if config is not None or set_ else None
        index = SearchIndex.open(loaded, store, run, given, split)
    device = str(choose_device(index.config.device))
    alone = len(index.store.query_roles) == 1 and not index.config.word_levels
    encoders = {}
    for role in index.store.query_roles:
        if run is None:
            caption = recipe.extract.extractor(extractor_of(index.config.streams[role]))
            anchor = index.store[index.config.anchor(role)].header
            assert isinstance(caption, CaptionEncoder)
            encoders[role] = untrained_query_encoder(anchor, caption, device, alone)
        else:
            encoders[role] = query_encoder(index.store[role].header, section, device, alone)
    return Searcher(index, encoders, captions)


def _lines(results: "SearchResults") -> Iterator[str]:
    from m2hf.fuse.search.index import RUN
    from m2hf.printable import printable

    missing = f"; {results.unseen} without features not searched" if results.unseen else ""
    if RUN in results.flags:
        yield "; ".join(results.flags[RUN])
    yield f"{results.dataset}: {results.videos} videos searched{missing}"
    for role, flags in results.flags.items():
        if role != RUN:
            yield f"{role}: {', '.join(flags)}"
    for hit in results.hits:
        yield from map(printable, _of_hit(hit))


def _of_hit(hit: "Hit") -> Iterator[str]:
    yield f"{hit.rank:3}  {hit.row.id}  {hit.score:.3f}  best at {_span(hit.frame)}  {hit.row.path}"
    scores = (
        f"{name} {'-' if level is None else f'{level.score:.3f}'}"
        for name, level in hit.levels.items()
    )
    yield f"     {'  '.join(scores)}"
    for line in hit.lines:
        yield f"     {line.origin} at {_span(line)}: {line.text}"


def _span(moment: "Moment | MatchedLine") -> str:
    return f"{moment.start_s:.1f} to {moment.end_s:.1f} s"
