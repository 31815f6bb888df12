"""The grid of a sweep as a TOML file.

    seeds = [0, 1, 2]
    base = "all levels"                    # the cell that others are compared with; optional

    [cells]                                # settings on top of the recipe, as --set takes them
    "all levels" = []
    "no audio" = ["fuse.levels.audio_visual.enabled=false"]

    [axes]                                 # every cell, with every combination of these values
    "fuse.strategy" = ["end_to_end", "ensemble"]

Without [cells] the cells are the combinations of the axes. A cell is called after the named cell
and its values: "no audio, strategy=ensemble". Each is trained once for every seed.
"""

import difflib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from m2hf.config import Section, parse, setting
from m2hf.errors import ConfigError
from m2hf.keys import canonical_json
from m2hf.plain_data import read_text, shown, toml
from m2hf.printable import printable

SEED = "fuse.train.seed"
_PREFIX = "fuse."
_MOST_RUNS = 10_000


@dataclass(frozen=True)
class Cell:
    """A cell of the grid: its name, and the settings that make it, by key."""

    name: str
    settings: Mapping[str, Any]


class GridFile(Section):
    """A grid file, checked."""

    seeds: tuple[int, ...] = Field(min_length=1)
    """Values of fuse.train.seed; each cell is trained with all of them."""
    base: str = ""
    """The cell that others are compared with; "" for none."""
    cells: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Named cells, each a list of KEY=VALUE."""
    axes: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Values by key."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a grid file; raises ConfigError for one that is malformed or has no cell."""
        where = str(path)
        return parse(cls, toml(read_text(path, where, ConfigError), where, ConfigError), where)

    @field_validator("seeds", mode="before")
    @classmethod
    def _sound_seeds(cls, given: Any) -> Any:
        seeds = given if isinstance(given, list) else [given]
        if not all(type(seed) is int and 0 <= seed < 1 << 63 for seed in seeds):
            raise ValueError("expected a list of whole numbers from 0, such as [0, 1, 2]")
        if len({*seeds}) < len(seeds):
            raise ValueError("a seed occurs twice, and would be the same run")
        return given

    @field_validator("axes", mode="before")
    @classmethod
    def _sound_axes(cls, given: Any) -> Any:
        for key, values in given.items() if isinstance(given, dict) else ():
            if isinstance(values, dict):
                raise ValueError(f'a key with dots needs quotes, such as "{_PREFIX}{key}.SETTING"')
            if not isinstance(values, list) or not values:
                raise ValueError(f"{shown(key)}: expected a list of values, such as [0.1, 0.2]")
            if len({canonical_json(_plain(value)) for value in values}) < len(values):
                raise ValueError(f"{shown(key)}: a value occurs twice")
        return given

    @model_validator(mode="after")
    def _sound(self) -> Self:
        cells = list(self.all())
        for cell in cells:
            if not cell.name.strip() or printable(cell.name) != cell.name:
                raise ValueError(f"{shown(cell.name)} is no name of a cell: one line, not empty")
            for key in cell.settings:
                if key == SEED or not key.startswith(_PREFIX):
                    raise ValueError(
                        f"cell {shown(cell.name)} sets {shown(key)}; expected keys of [fuse], and "
                        "seeds as `seeds`"
                    )
        names = [cell.name for cell in cells]
        if len({*names}) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two cells are called {shown(twice)}; rename one")
        if self.base and self.base not in names:
            near = difflib.get_close_matches(self.base, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"cells: {shown(', '.join(names))}"
            raise ValueError(f"base = {shown(self.base)} is no cell; {hint}")
        return self

    def all(self) -> Iterator[Cell]:
        """The cells in the order of the file, the last axis fastest; raises ValueError for a
        malformed setting, for no cell, and for more runs than anybody can mean."""
        if not self.cells and not self.axes:
            raise ValueError("no cell; give [cells] or [axes]")
        count = len(self.seeds) * max(1, len(self.cells))
        for values in self.axes.values():
            count *= len(values)
        if count > _MOST_RUNS:
            raise ValueError(f"{count} runs, expected at most {_MOST_RUNS}; leave out some values")
        for name, given in self.cells.items() or [("", ())]:
            own: dict[str, Any] = {}
            for text in given:
                try:
                    key, value = setting(text, f"cell {shown(name)}: {shown(text)}")
                except ConfigError as error:
                    raise ValueError(str(error)) from error
                if key in own or key in self.axes:
                    raise ValueError(f"cell {shown(name)} sets {shown(key)} twice, or as an axis")
                own[key] = value
            for values in itertools.product(*self.axes.values()):
                axes = dict(zip(self.axes, values, strict=True))
                parts = [*([name] if self.cells else []), *map(_value_name, axes, axes.values())]
                yield Cell(", ".join(parts), own | axes)


def _value_name(key: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)
    return f"{key.removeprefix(_PREFIX)}={text}"


def _plain(value: Any) -> Any:
    """TOML's values as JSON has them: dates are strings there."""
    return json.loads(json.dumps(value, default=str))
