"""`m2hf import`: write features computed by other tools as shards."""

from typing import TYPE_CHECKING, Annotated

import typer

from m2hf.cli import options
from m2hf.errors import UsageError
from m2hf.manifest import shortened
from m2hf.streams import CAPTION, is_extractor_name

if TYPE_CHECKING:
    from m2hf.exchange.importing import ImportedStream


def import_(
    manifest: options.ManifestDir,
    store: options.Store,
    stream: Annotated[
        list[str] | None,
        typer.Option(
            "--stream",
            metavar="NAME=DIR_OR_FILE",
            help="A folder of <id>.npy or .npz, or one HDF5 file; may be repeated.",
        ),
    ] = None,
    captions: Annotated[
        list[str] | None,
        typer.Option(
            "--captions",
            metavar="[NAME=]FILE",
            help=".npz or .h5: ids, sentence[, texts, tokens]; NAME: caption. May be repeated.",
        ),
    ] = None,
    skip_unknown: Annotated[
        bool,
        typer.Option("--skip-unknown", help="Leave out arrays whose ids the manifest lacks."),
    ] = False,
    json: options.Json = False,
) -> None:
    """Write arrays computed by other tools as shards, for `train` to read.

    A video's array is (N, D) rows, or (D,); an .npz or an HDF5 group adds start_s and end_s, in
    seconds. Captions are `<video id>#<index>`. Name the streams in the config: fuse.streams.
    """
    from dataclasses import asdict

    from m2hf.exchange.importing import import_streams
    from m2hf.keys import canonical_json
    from m2hf.manifest import Manifest

    paths = options.named_paths("--stream", stream or [], "NAME=DIR_OR_FILE", "depth=features")
    named = [entry if _has_name(entry) else f"{CAPTION}={entry}" for entry in captions or []]
    told = options.named_paths("--captions", named, "[NAME=]FILE", "caption_clap=clap.npz")
    if not paths and not told:
        raise UsageError("nothing to import; give --stream NAME=DIR_OR_FILE or --captions FILE")
    done = import_streams(Manifest.load(manifest), store, paths, told, skip_unknown)
    if json:
        typer.echo(canonical_json({name: asdict(made) for name, made in done.items()}))
        return
    for name, made in done.items():
        _print_report(name, made)


def _has_name(entry: str) -> bool:
    """Whether `entry` is NAME=FILE; a path with an equals sign may start with ./"""
    name, equals, _ = entry.partition("=")
    return bool(equals) and is_extractor_name(name)


def _print_report(name: str, made: "ImportedStream") -> None:
    typer.echo(
        f"{made.stream}: {made.ok} items of width {made.width} ({made.dtype}), "
        f"{made.empty} empty, {len(made.missing)} missing, in {made.shards} shards"
    )
    if made.missing:
        typer.echo(f"  missing (no array): {shortened(made.missing)}")
    if made.unknown:
        typer.echo(f"  skipped (no id of the manifest): {made.unknown}")
    for flag in made.flags:
        typer.echo(f"  flag, repeated in every table: {flag}")
    if made.others:
        typer.echo(
            f"  the store also has {', '.join(made.others)}; choose one with "
            f"--set fuse.streams.ROLE={made.stream}"
        )
