"""A whole recipe: the sections of extraction and of fusion."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import typer

from m2hf.config import Section, parse, read_recipe
from m2hf.errors import ConfigError
from m2hf.fuse.config import FusionConfig
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest
from m2hf.pipelines.config import ExtractConfig


class Recipe(Section):
    """All settings of m2hf."""

    extract: ExtractConfig = ExtractConfig()
    """Extraction: how to run it. Apart from device and encoder, none of these keys changes the
    features; those of the extractors do."""
    fuse: FusionConfig = FusionConfig()
    """Streams, levels, model, training and evaluation of a fusion run."""


def _to_stderr(line: str) -> None:
    typer.echo(line, err=True)


def load_recipe(
    config: Path | None,
    overrides: list[str] | None,
    layout: StoreLayout | None = None,
    on_remark: Callable[[str], None] = _to_stderr,
) -> tuple[Recipe, Mapping[str, Any]]:
    """The validated recipe, and its [extract] section as written, for workers to validate again.

    `config` is a file, or the name of a recipe that ships with m2hf; None: the recipe that the
    store at `layout` was begun with, if there is one. `on_remark` is told where that is used, and
    where `config` would extract other features. Raises ConfigError.
    """
    recorded = layout.recipe if layout is not None and layout.recipe.exists() else None
    data = recipe_data(config or recorded, overrides)
    if recorded is not None and config is None:
        on_remark(f"m2hf: the recipe is that of the store, {recorded}; --config gives another")
    elif recorded is not None:
        begun = recipe_data(recorded, overrides)
        if begun.get("extract", {}) != data.get("extract", {}):
            on_remark(f"m2hf: the store was begun with another [extract] section: {recorded}")
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


def layout_of(manifest: Path, store: Path) -> StoreLayout:
    """Where the store has, or will have, the manifest's dataset; raises ManifestError."""
    return StoreLayout(store, Manifest.read_card(manifest).name)
