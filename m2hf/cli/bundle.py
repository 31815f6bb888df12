"""`m2hf bundle | reproduce`: a table with its inputs in one file, and its numbers again."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from m2hf.errors import EXIT_FAILURES, UsageError


def bundle(
    table: Annotated[Path, typer.Argument(help="A table that `m2hf tables --out` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="File to write, such as table.zip.")],
    folders: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="Folder to find the table's inputs in, at any depth; repeatable.",
            show_default="the table's folder",
        ),
    ] = None,
) -> None:
    """Pack a table with what its numbers were made from: manifest, shards of the streams that it
    reads, checkpoints, similarity files and configs, found by their digests. No videos."""
    from m2hf.fuse.bundle.packing import pack
    from m2hf.keys import sha256_file

    if out.is_dir():
        raise UsageError(f"--out {out}: a folder; expected a file to write, such as table.zip")
    about = pack(table, folders or [table.parent], out)
    mib = sum(member.size for member in about.members.values()) / (1 << 20)
    typer.echo(f"{len(about.members)} files, {mib:.1f} MiB, sha256 {sha256_file(out)}")
    typer.echo(f"wrote {out}")


def reproduce(
    file: Annotated[Path, typer.Argument(help="A file that `m2hf bundle` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="New folder to unpack to and to keep; else a temporary one."),
    ] = None,
) -> None:
    """Check a bundle, score again from its shards, and compare its table cell by cell.

    Exit code 3 where a file is not the one that was packed, or a cell differs.
    """
    from m2hf.atomic import atomic_folder

    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            reproduced = _reproduced(file, Path(folder))
    else:
        with atomic_folder(out) as folder_:
            reproduced = _reproduced(file, folder_)
        typer.echo(f"wrote {out}")
    typer.echo("reproduced" if reproduced else "NOT REPRODUCED")
    if not reproduced:
        raise typer.Exit(EXIT_FAILURES)


def _reproduced(file: Path, folder: Path) -> bool:
    from m2hf.fuse.bundle.reproduction import Reproduction

    unpacked = Reproduction.unpack(file, folder, typer.echo)
    return unpacked is not None and unpacked.run()
