"""`m2hf search | app`: search videos with a trained run, in the terminal or on a web page."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2hf.cli import options
from m2hf.manifest import Split

if TYPE_CHECKING:
    from m2hf.fuse.search.results import Hit, MatchedLine, Moment, SearchResults
    from m2hf.fuse.search.searcher import Searcher

SearchedSplit = Annotated[
    Split | None, typer.Option("--split", help="Search only this split; default: all videos.")
]


def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What the video should show.")],
    manifest: options.ManifestDir,
    store: options.Store,
    run: options.Run,
    config: options.Config = None,
    set_: options.Set = None,
    split: SearchedSplit = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many videos.")] = 10,
    json: options.Json = False,
) -> None:
    """Rank videos for a sentence, with the best frame, matched text and score of each level.

    The query encoder is that of the training captions, read from their shards; where its weights
    are a checkpoint file, give its path: --set extract.encoder.pretrained=PATH.
    """
    from m2hf.fuse.search.query import checked
    from m2hf.keys import canonical_json

    checked(query)  # before anything is loaded
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
    run: options.Run,
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
        searcher = _searcher(manifest, store, run, config, set_, split)
        videos = int(searcher.index.covered_V.sum())
        names = {host, socket.gethostname()} if is_public(listening) else {host}
        page = Site(searcher, files).app(names)
        serve(
            page, listening, lambda url: typer.echo(f"{videos} videos at {url} (Ctrl-C stops it)")
        )


def _searcher(
    manifest: Path,
    store: Path,
    run: Path,
    config: Path | None,
    set_: list[str] | None,
    split: Split | None,
) -> "Searcher":
    from m2hf.cli.query_encoder import query_encoder
    from m2hf.cli.recipe import load_recipe
    from m2hf.fuse.devices import choose_device
    from m2hf.fuse.search.index import SearchIndex
    from m2hf.fuse.search.searcher import Searcher
    from m2hf.manifest import Manifest, captions_of

    recipe, section = load_recipe(config, set_)
    given = recipe.fuse if config is not None or set_ else None
    loaded = Manifest.load(manifest)
    index = SearchIndex.open(loaded, store, run, given, split)
    device = choose_device(index.config.device)
    alone = len(index.store.query_roles) == 1 and not index.config.word_levels
    encoders = {
        role: query_encoder(index.store[role].header, section, str(device), refuse_unknown=alone)
        for role in index.store.query_roles
    }
    return Searcher(index, encoders, tuple(c.text for c in captions_of(loaded.rows)))


def _lines(results: "SearchResults") -> Iterator[str]:
    from m2hf.printable import printable

    missing = f"; {results.unseen} without features not searched" if results.unseen else ""
    yield f"{results.dataset}: {results.videos} videos searched{missing}"
    for role, flags in results.flags.items():
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
