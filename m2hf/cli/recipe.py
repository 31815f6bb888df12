"""A whole recipe: the sections of extraction and of fusion."""

from collections.abc import Mapping
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
    if config is not None and not config.is_file():  # a folder may well be called `demo`
        shipped = files("m2hf.pipelines.recipes") / f"{config}.toml"
        if not shipped.is_file():
            names = sorted(
                entry.name.removesuffix(".toml")
                for entry in files("m2hf.pipelines.recipes").iterdir()
                if entry.name.endswith(".toml")
            )
            raise ConfigError(
                f"--config {config}: no such file, and no recipe of that name; "
                f"shipped: {', '.join(names)}"
            )
        with as_file(shipped) as path:
            data = read_recipe(path, overrides or ())
    else:
        data = read_recipe(config, overrides or ())
    return parse(Recipe, data), data.get("extract", {})
