"""`m2hf manifest`: make and check manifests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from m2hf.cli import options
from m2hf.errors import EXIT_FAILURES, UsageError
from m2hf.manifest import shortened
from m2hf.printable import printable

if TYPE_CHECKING:
    from m2hf.data_manifests.build import BuiltManifest
    from m2hf.data_manifests.captions_file import Columns
    from m2hf.data_manifests.folder import OwnManifest

app = typer.Typer(help="Make and check manifests.", no_args_is_help=True)


Name = Annotated[str, typer.Option("--name", help="Dataset name; default: OUT's.")]
Captions = Annotated[
    Path | None, typer.Option("--captions", help="CSV: id,caption[,split]; default: none.")
]


def from_folder(
    videos: Annotated[Path, typer.Argument(help="Folder of videos.")],
    out: Annotated[Path, typer.Option("--out", help="Manifest folder to write.")],
    captions: Captions = None,
    name: Name = "",
    columns: options.ColumnOptions = options.COLUMNS,
) -> None:
    """Make a manifest from a folder of videos, and a CSV of captions if there is one.

    An id is a file name without its extension. Without a split column, 70 % of the ids are in
    train, 10 % in val and 20 % in test, by hash; without captions, all are in test.
    """
    from m2hf.data_manifests.folder import from_folder as build

    built = build(videos, captions, name or out.resolve().name, columns_of(columns, captions))
    built.manifest.save(out)
    print_own(built, captions)
    typer.echo(f"wrote {out} ({built.manifest.digest[:8]})")


def from_captions(
    captions: Annotated[Path, typer.Argument(help="CSV: id,caption[,split].")],
    out: Annotated[Path, typer.Option("--out", help="Manifest folder to write.")],
    name: Name = "",
    columns: options.ColumnOptions = options.COLUMNS,
) -> None:
    """Make a manifest from a CSV of captions alone, for features that are imported.

    The path of a video is its id, where no file is expected. Without a split column, 70 % of the
    ids are in train, 10 % in val and 20 % in test, by hash.
    """
    from m2hf.data_manifests.folder import from_captions as build

    built = build(captions, name or out.resolve().name, columns_of(columns, captions))
    built.manifest.save(out)
    _print_own(built)
    typer.echo(f"wrote {out} ({built.manifest.digest[:8]})")


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="A benchmark; see `m2hf manifest list`.")],
    annotations: Annotated[
        Path, typer.Option("--annotations", help="Folder of its official annotation files.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Manifest folder to write.")],
    media: Annotated[
        Path | None, typer.Option("--media", help="Find each video below this folder, by name.")
    ] = None,
    splits: Annotated[
        str, typer.Option("--splits", help="Splits to build, comma-separated; default: all.")
    ] = "",
    json: options.Json = False,
) -> None:
    """Make a benchmark's manifest from its official files, plain or gzipped.

    Exit code 3 where it differs from the benchmark's card, or videos are missing: these are listed,
    and the manifest is written with them in it.
    """
    from m2hf.data_manifests.build import build as make
    from m2hf.keys import canonical_json

    only = [split.strip() for split in splits.split(",") if split.strip()]
    built = make(name, annotations, media, only)
    built.save(out)
    if json:
        typer.echo(canonical_json(built.as_json()))
    else:
        _print_summary(built, media, out)
    if built.differences or built.missing:
        raise typer.Exit(EXIT_FAILURES)


@app.command()
def toybox(
    out: Annotated[Path, typer.Option("--out", help="Folder for videos/, manifest/, scenes.json.")],
    clips: Annotated[int, typer.Option("--clips", help="How many clips.")] = options.TOYBOX_CLIPS,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the random generator: another data set.")
    ] = 0,
    kind: Annotated[
        Literal["modalities", "timing"],
        typer.Option("--kind", help="timing: which figure is there while a sound is heard."),
    ] = "modalities",
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", help="Store to fill with the precomputed features that ship with m2hf."
        ),
    ] = None,
) -> None:
    """Generate the toybox: clips whose sound, motion, text or speech tells what frames don't.

    OUT/scenes.json describes each clip, and which modalities identify it. --store gets precomputed
    OCR and ASR features of the default set, without its test split; `m2hf extract` adds the rest.
    --kind timing makes another data set, whose captions need frames and sound at their times.
    """
    from m2hf.data_manifests.toybox import precomputed
    from m2hf.data_manifests.toybox.corpus import ToyboxCorpus, generate

    corpus = ToyboxCorpus.draw(clips, seed, kind)
    generate(out, corpus)
    made = corpus.manifest()
    made.save(out / "manifest")
    for split, count in made.counts().items():
        typer.echo(f"{split}: {count.videos} videos, {count.captions} captions")
    have = ", ".join(f"{name} in {n}" for name, n in corpus.availability().items())
    typer.echo(f"of {clips} clips: {have}")
    typer.echo(f"wrote {out / 'manifest'} ({made.digest[:8]})")
    if store is not None:
        placed = precomputed.copy_to_store(store, made)
        names = " and ".join(precomputed.EXTRACTORS)
        typer.echo(
            f"{store}: {names} of {placed} clips are precomputed"
            if placed
            else f"{store}: nothing is precomputed for this size and seed; all will be extracted"
        )


@app.command("list")
def list_(json: options.Json = False) -> None:
    """Print the benchmarks that m2hf supports, with the counts of their cards."""
    from m2hf.data_manifests import cards
    from m2hf.keys import canonical_json

    known = [cards.read(name) for name in cards.names()]
    if json:
        typer.echo(canonical_json({card.name: card.model_dump() for card in known}))
        return
    for entry in known:
        counts = ", ".join(
            f"{split} {count.videos} ({count.captions} captions)"
            for split, count in entry.splits.items()
        )
        typer.echo(f"{entry.name}: {entry.protocol}; {counts}")


def check(
    manifest: Annotated[Path, typer.Argument(help="Manifest folder.")],
    media: Annotated[
        Path | None, typer.Option("--media", help="Also look for each video below this folder.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare a manifest with its card; exit code 3 where they differ."""
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
            typer.echo(printable(line))
        typer.echo(f"{loaded.card.name}: {len(loaded.rows)} videos, {len(differences)} differences")
    if differences:
        raise typer.Exit(EXIT_FAILURES)


app.command("from-folder")(options.command(from_folder))
app.command("from-captions")(options.command(from_captions))
app.command()(options.command(check))


def columns_of(given: options.ColumnOptions, captions: Path | None) -> "Columns":
    """The columns to read; raises UsageError where some are named and no file is given."""
    from m2hf.data_manifests.captions_file import Columns

    if captions is None and given != options.COLUMNS:
        raise UsageError("--id-column, --caption-column and --split-column are of --captions FILE")
    return Columns(given.id_column, given.caption_column, given.split_column)


def print_own(built: "OwnManifest", captions: Path | None) -> None:
    """Print counts and remarks of the manifest of a folder of videos; captions: their file."""
    _print_own(built)
    if captions is None:
        typer.echo(
            "no captions: all videos are in split test; they can be extracted and searched, but "
            "training and evaluation need --captions"
        )
    elif built.without_captions:
        ids = printable(shortened(built.without_captions))
        typer.echo(f"{len(built.without_captions)} videos have no caption: {ids}")


def _print_own(built: "OwnManifest") -> None:
    for split, count in built.manifest.counts().items():
        typer.echo(f"{split}: {count.videos} videos, {count.captions} captions")
    for remark in built.remarks:
        typer.echo(str(remark))
    if built.split_by_hash:
        typer.echo("no split column: split 70/10/20, in the order of the ids' hashes")


def _print_summary(built: "BuiltManifest", media: Path | None, out: Path) -> None:
    from m2hf.data_manifests.build import MISSING

    declared = built.manifest.card.splits
    for split, count in built.manifest.counts().items():
        typer.echo(f"{split}: {count.videos} videos, {count.captions} captions")
    for split in built.left_out:
        count = declared[split]
        typer.echo(
            f"{split}: left out; the card declares {count.videos} videos, {count.captions} captions"
        )
    built_splits = ", ".join(split for split in declared if split not in built.left_out)
    for line in built.differences or [f"{built_splits}: as the card declares"]:
        typer.echo(line)
    for remark in built.remarks:
        typer.echo(str(remark))
    for extractor, flags in built.manifest.card.flags.items():
        typer.echo(f"{extractor} has flags, repeated in every table: {'; '.join(flags)}")
    if built.missing:
        ids = printable(shortened([row.id for row in built.missing]))
        typer.echo(
            f"{len(built.missing)} of {len(built.manifest.rows)} videos have no file under "
            f"{media}, and stay in the manifest: {ids} (all: {out / MISSING})"
        )
    typer.echo(f"wrote {out} ({built.manifest.digest[:8]})")
