"""`m2hf search | app`: ask a trained run for videos, in the terminal or on a page."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2hf.cli import options
from m2hf.manifest import Split

if TYPE_CHECKING:
    from m2hf.fuse.search.answer import Answer, Hit, Moment
    from m2hf.fuse.search.searcher import Searcher

SearchedSplit = Annotated[
    Split | None, typer.Option("--split", help="Search this split alone; default: all videos.")
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
    """Rank videos for a sentence, and say where each matches: frame, words, every level's score.

    The sentence is encoded as the captions of the training were; their shards say how. Only where
    that was with a checkpoint file: --set extract.encoder.pretrained=PATH.
    """
    from m2hf.fuse.search.query import checked
    from m2hf.keys import canonical_json

    checked(query)  # before anything is loaded
    answer = _searcher(manifest, store, run, config, set_, split).search(query, top)
    if json:
        typer.echo(canonical_json(answer.as_json()))
        return
    for line in _lines(answer):
        typer.echo(line)
    for remark in answer.remarks:
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
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0: all, to everybody.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")
    ] = 8000,
) -> None:
    """Search on a page of this machine, with players that begin where a video matches.

    Needs the extras `app`, `extract` and `fuse`. Ctrl-C ends it.
    """
    from m2hf.fuse.search.web.media_files import MediaFiles
    from m2hf.fuse.search.web.serve import bind, is_public, serve
    from m2hf.fuse.search.web.site import Site

    files = MediaFiles.open(media)
    with bind(host, port) as listening:
        if is_public(listening):
            typer.echo(
                f"m2hf: --host {host}: whoever reaches this machine can search and watch these "
                "videos; there is no password",
                err=True,
            )
        searcher = _searcher(manifest, store, run, config, set_, split)
        videos = int(searcher.index.known_V.sum())
        names = {host, socket.gethostname()} if is_public(listening) else {host}
        page = Site(searcher, files).app(names)
        serve(page, listening, lambda url: typer.echo(f"{videos} videos at {url} (Ctrl-C ends it)"))


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
    from m2hf.fuse.config import CAPTIONS
    from m2hf.fuse.devices import choose_device
    from m2hf.fuse.search.index import SearchIndex
    from m2hf.fuse.search.searcher import Searcher
    from m2hf.manifest import Manifest, captions_of

    recipe, section = load_recipe(config, set_)
    given = recipe.fuse if config is not None or set_ else None
    loaded = Manifest.load(manifest)
    index = SearchIndex.open(loaded, store, run, given, split)
    device = choose_device(index.config.device)
    encode = query_encoder(index.store[CAPTIONS].header, section, str(device))
    return Searcher(index, encode, tuple(c.text for c in captions_of(loaded.rows)))


def _lines(answer: "Answer") -> Iterator[str]:
    from m2hf.printable import printable

    missing = f"; not searched, for want of features: {answer.unseen}" if answer.unseen else ""
    yield f"{answer.dataset}: {answer.videos} videos searched{missing}"
    for role, flags in answer.flags.items():
        yield f"{role}: {', '.join(flags)}"
    for hit in answer.hits:
        yield from map(printable, _of_hit(hit))


def _of_hit(hit: "Hit") -> Iterator[str]:
    yield f"{hit.rank:3}  {hit.row.id}  {hit.score:.3f}  best at {_span(hit.frame)}  {hit.row.path}"
    scores = (
        f"{name} {'-' if level is None else f'{level.score:.3f}'}"
        for name, level in hit.levels.items()
    )
    yield f"     {'  '.join(scores)}"
    for level in hit.strings:
        yield f"     {level.origin} at {_span(level.moment)}: {level.text}"


def _span(moment: "Moment") -> str:
    return f"{moment.start_s:.1f} to {moment.end_s:.1f} s"
