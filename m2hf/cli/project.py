"""Where a verb gets its paths and its recipe if no option gives them: the project's m2hf.toml."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from m2hf.errors import UsageError
from m2hf.printable import printable
from m2hf.project import FILE, Project

KEYS = ("media", "manifest", "store", "run", "config")
FILES = "files"  # the argument of `tables`

_THERE = ("media", "manifest")  # folders that exist before a verb reads them
_META = "m2hf.project"


@dataclass(frozen=True)
class FromProject:
    """names: the parameters whose values are the project's, since no option gives them."""

    names: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        return name in self.names

    @classmethod
    def of(cls, context: typer.Context, given: Mapping[str, Any]) -> "FromProject":
        """Of a verb with these arguments. Raises UsageError for a path of the project's file that
        leads nowhere."""
        names = [name for name in given if _is_default(context, name)]
        for name in {*KEYS} & {*names}:
            _check(name, Path(given[name]), context.meta[_META])
        return cls(frozenset(names))


NOTHING = FromProject()


def _is_default(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT_MAP"


def _check(name: str, path: Path, file: Path) -> None:
    if name == "config":
        if path.is_file() or path.suffix != ".toml":  # or the name of a recipe
            return
        problem = "no such file"
    elif path.is_dir() or (name not in _THERE and not path.exists()):
        return
    else:
        problem = "is not a folder" if path.exists() else "no such folder"
    raise UsageError(
        f"{printable(str(file))}: {name} = {printable(repr(str(path)))}: {problem}; correct "
        f"{name} there, or give --{name}"
    )


def _read(context: typer.Context, folder: Path | None) -> Path | None:
    """Make the project's values the defaults of the verb."""
    if context.resilient_parsing:
        return folder
    place = folder or Path()
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--project {folder}: no such folder; give one with a file {FILE}")
    found = Project.find(place)
    if found is None:
        if folder is not None:
            raise UsageError(
                f"--project {folder}: no {FILE} there; run `m2hf init VIDEOS` in it, or give the "
                "folder of a project"
            )
        return folder
    values = {key: value for key in KEYS if (value := getattr(found, key)) is not None}
    paths = {key: str(place / value) for key, value in values.items()}
    if "config" in values and not Path(paths["config"]).is_file():
        paths["config"] = values["config"]  # the name of a recipe
    if "run" in paths:
        paths[FILES] = str(Path(paths["run"], "similarity.h5"))
    context.meta[_META] = place / FILE
    context.default_map = {
        parameter.name: [paths[parameter.name]]
        if parameter.nargs == -1 or getattr(parameter, "multiple", False)
        else paths[parameter.name]
        for parameter in context.command.params
        if parameter.name in paths
    }
    return folder


ProjectFolder = Annotated[
    Path | None,
    typer.Option(
        "--project",
        is_eager=True,
        callback=_read,
        help="Folder with an m2hf.toml, for options that are not given; default: this folder.",
    ),
]
