"""Options that several verbs share, written once."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from m2hf.cli.project import FILES, KEYS, FromProject, ProjectFolder
from m2hf.errors import UsageError

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
IdColumn = Annotated[str, typer.Option("--id-column", help="Column of the CSV with ids.")]
CaptionColumn = Annotated[
    str, typer.Option("--caption-column", help="Column of the CSV with captions.")
]
SplitColumn = Annotated[
    str,
    typer.Option("--split-column", help="Column with splits; default: `split`, if it is there."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]

_PROJECT, _CONTEXT = "project", "context"

TOYBOX_CLIPS = 640  # of the default toybox, which ships with some precomputed features


@dataclass(frozen=True)
class JobOptions:
    """What an extraction works on: the options that plan, extract, retry and status share."""

    manifest: ManifestDir
    media: Media
    store: Store
    config: Config = None
    set_: Set = None
    only: Only = ""


@dataclass(frozen=True)
class ExecutorOptions:
    """Which processes do the work; at most one of the three is given."""

    workers: Workers = 0
    scheduler: Scheduler = ""
    array: ArrayShare = ""


@dataclass(frozen=True)
class ColumnOptions:
    """The columns of a CSV of captions."""

    id_column: IdColumn = "id"
    caption_column: CaptionColumn = "caption"
    split_column: SplitColumn = ""


COLUMNS = ColumnOptions()
_GROUPS = (JobOptions, ExecutorOptions, ColumnOptions)


def command(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb` with a signature that typer reads: a parameter whose type is one of the dataclasses
    above becomes an option for each of its fields. A verb that has an option which a project's
    file gives has --project; a parameter of type FromProject tells it which of them were taken."""
    groups: dict[str, type[Any]] = {}
    told = ""
    options: list[inspect.Parameter] = []
    hints = get_type_hints(verb, include_extras=True)
    for parameter in inspect.signature(verb).parameters.values():
        kind = hints[parameter.name]
        if kind in _GROUPS:
            groups[parameter.name] = kind
            options += _options_of(kind)
        elif kind is FromProject:
            told = parameter.name
        else:
            options.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
    in_project = not {*KEYS, FILES}.isdisjoint(option.name for option in options)
    if in_project:
        options += _project_options()

    @wraps(verb)
    def flat(**given: Any) -> None:
        if in_project:
            del given[_PROJECT]
            taken = FromProject.of(given.pop(_CONTEXT), given)
            given |= {told: taken} if told else {}
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        verb(**given)

    flat.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    flat.__annotations__ = {option.name: option.annotation for option in options}
    return flat


def _project_options() -> list[inspect.Parameter]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(_PROJECT, keyword, default=None, annotation=ProjectFolder),
        inspect.Parameter(_CONTEXT, keyword, annotation=typer.Context),
    ]


def _options_of(kind: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]


def named_paths(
    option: str, given: Sequence[str], form: str, example: str, reserved: str = ""
) -> dict[str, Path]:
    """The paths of a repeatable option NAME=PATH, by name.

    form, example: what an error message shows as expected; reserved: characters that a name may
    not have. Raises UsageError for another form and for a name that is given twice.
    """
    paths: dict[str, Path] = {}
    for entry in given:
        name, _, path = entry.partition("=")
        if not name or not path or {*name} & {*reserved}:
            raise UsageError(f"{option} {entry}: expected {form}, such as {example}")
        if name in paths:
            raise UsageError(f"{option} {entry}: {name!r} is given twice")
        paths[name] = Path(path)
    return paths
