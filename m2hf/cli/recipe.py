"""A whole recipe: the sections of extraction and of fusion."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from m2hf.config import Section, parse, read_recipe
from m2hf.errors import ConfigError
from m2hf.fuse.config import FusionConfig
from m2hf.pipelines.config import ExtractConfig


class Recipe(Section):
    """All settings of m2hf."""

    extract: ExtractConfig = ExtractConfig()
    """Extraction: how to run it. Apart from device and encoder, none of these keys changes the
    features; those of the extractors do."""
    fuse: FusionConfig = FusionConfig()
    """Streams, levels, model, training and evaluation of a fusion run."""


def load_recipe(
    config: Path | None, overrides: list[str] | None
) -> tuple[Recipe, Mapping[str, Any]]:
    """The validated recipe, and its [extract] section as written, for workers to validate again.

    `config` is a file, or the name of a recipe that ships with m2hf. Raises ConfigError.
    """
    data = recipe_data(config, overrides)
    return parse(Recipe, data), data.get("extract", {})


def recipe_data(config: Path | None, overrides: list[str] | None) -> dict[str, Any]:
    """A recipe as written, with its overrides; raises ConfigError."""
    if config is None:
        return read_recipe(None, overrides or ())
    with shipped_file("--config", config) as path:
        return read_recipe(path, overrides or ())


@contextmanager
def shipped_file(option: str, given: Path, kind: str = "recipe") -> Iterator[Path]:
    """`given`, or the recipe or grid (`kind`) of that name that ships with m2hf.

    Raises ConfigError, whose message starts with `option`, where there is neither.
    """
    if given.is_file():  # a folder may well be called `demo`
        yield given
        return
    shipped = files("m2hf.pipelines.recipes")
    if kind == "grid":
        shipped /= "grids"
    names = {
        entry.name.removesuffix(".toml"): entry
        for entry in shipped.iterdir()
        if entry.name.endswith(".toml")
    }
    if str(given) not in names:
        raise ConfigError(
            f"{option} {given}: no such file, and no {kind} of that name; "
            f"shipped: {', '.join(sorted(names))}"
        )
    with as_file(names[str(given)]) as path:
        yield path
