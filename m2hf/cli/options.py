"""Options that every verb spells the same way."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", help="Recipe: a TOML file, or the name of one that ships with m2hf."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key; may be repeated."),
]
ManifestDir = Annotated[Path, typer.Option("--manifest", help="Manifest folder.")]
Media = Annotated[Path, typer.Option("--media", help="Root folder of the video files.")]
Store = Annotated[Path, typer.Option("--store", help="Folder of the feature shards.")]
Run = Annotated[Path, typer.Option("--run", help="Folder of one training run.")]
Only = Annotated[
    str,
    typer.Option("--only", help="Extractors, comma-separated; default: extract.extractors."),
]
Workers = Annotated[
    int, typer.Option("--workers", min=0, help="Dask worker processes; 0: work in this process.")
]
Scheduler = Annotated[
    str, typer.Option("--scheduler", help="Address of a Dask scheduler, tcp://host:port.")
]
ArrayShare = Annotated[
    str, typer.Option("--array", metavar="I/N", help="Do share I (from 0) of N, without Dask.")
]
Kinds = Annotated[
    Path | None,
    typer.Option("--kinds", help="CSV id,kind of the queries: a row for each kind."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]

TOYBOX_CLIPS = 640  # of the default toybox, some of whose features ship with m2hf
