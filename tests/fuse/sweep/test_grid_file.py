"""The grid of a sweep: cells by name and by axes, and one line for what can't be one."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2hf.errors import ConfigError
from m2hf.fuse.sweep.grid_file import GridFile


def read(folder: Path, text: str) -> GridFile:
    path = folder / "grid.toml"
    path.write_text(text, encoding="utf-8")
    return GridFile.read(path)


def test_named_cells_take_every_combination_of_the_axes(tmp_path: Path) -> None:
    grid = read(
        tmp_path,
        """
        seeds = [3]
        base = "all, strategy=ensemble, train.lr=0.1"
        [cells]
        "all" = []
        "no audio" = ["fuse.levels.audio_visual.enabled=false"]
        [axes]
        "fuse.strategy" = ["end_to_end", "ensemble"]
        "fuse.train.lr" = [0.1, 0.2]
        """,
    )
    cells = {cell.name: cell.settings for cell in grid.all()}
    assert len(cells) == 8
    assert list(cells)[:2] == [
        "all, strategy=end_to_end, train.lr=0.1",
        "all, strategy=end_to_end, train.lr=0.2",
    ]
    assert cells["no audio, strategy=ensemble, train.lr=0.2"] == {
        "fuse.levels.audio_visual.enabled": False,
        "fuse.strategy": "ensemble",
        "fuse.train.lr": 0.2,
    }


VALUES = st.lists(st.integers() | st.booleans() | st.text(st.characters(categories=["L", "N"])))


@given(st.dictionaries(st.from_regex(r"fuse\.[a-z]{1,4}\.[a-z]{1,4}", fullmatch=True), VALUES))
def test_axes_give_each_combination_once(axes: dict[str, list[object]]) -> None:
    axes = {key: list({json.dumps(v): v for v in values}.values()) for key, values in axes.items()}
    axes = {key: values[:3] for key, values in list(axes.items())[:4] if values}
    names = {key: {v if isinstance(v, str) else json.dumps(v) for v in axes[key]} for key in axes}
    if not axes or any(len(names[key]) < len(axes[key]) for key in axes):
        return  # "1" and 1 have one name, which is refused
    cells = list(GridFile.model_validate({"seeds": [0], "axes": axes}).all())
    found = [json.dumps(dict(cell.settings)) for cell in cells]
    wanted = [
        json.dumps(dict(zip(axes, v, strict=True))) for v in itertools.product(*axes.values())
    ]
    assert found == wanted
    assert len({cell.name for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('seeds = [0]\n[cells]\n"a" = []\n[axis]\n', "unknown key 'axis'; did you mean 'axes'?"),
        ("seeds = [0]", "no cell; give [cells] or [axes]"),
        ('[cells]\n"a" = []', "no key 'seeds'"),
        ('seeds = [0, 0]\n[cells]\n"a" = []', "a seed occurs twice"),
        ('seeds = [-1]\n[cells]\n"a" = []', "whole numbers from 0"),
        ('seeds = [true]\n[cells]\n"a" = []', "whole numbers from 0"),
        ('seeds = []\n[cells]\n"a" = []', "seeds"),
        ('seeds = [0]\nbase = "al"\n[cells]\n"all" = []', "is no cell; did you mean 'all'?"),
        ('seeds = [0]\n[cells]\n"a" = ["fuse.train.seed=1"]', "seeds as `seeds`"),
        ('seeds = [0]\n[cells]\n"a" = ["extract.threads=1"]', "expected keys of [fuse]"),
        ('seeds = [0]\n[cells]\n"a" = ["fuse.strategy"]', "expected key=value"),
        ('seeds = [0]\n[cells]\n"a" = ["fuse.x=1", "fuse.x=2"]', "sets 'fuse.x' twice"),
        ('seeds = [0]\n[cells]\n" " = []', "is no name of a cell"),
        ('seeds = [0]\n[cells]\n"a\\nb" = []', "is no name of a cell"),
        ('seeds = [0]\n[axes]\n"fuse.strategy" = []', "expected a list of values"),
        ('seeds = [0]\n[axes]\n"fuse.strategy" = "ensemble"', "expected a list of values"),
        ("seeds = [0]\n[axes]\nfuse.strategy = [1]", "a key with dots needs quotes"),
        ('seeds = [0]\n[axes]\n"fuse.x" = [1, 1]', "a value occurs twice"),
        ('seeds = [0]\n[axes]\n"fuse.x" = [1, "1"]', "two cells are called 'x=1'"),
        (f'seeds = [0]\n[axes]\n"fuse.x" = {list(range(10_001))}', "expected at most 10000"),
        ("seeds = [0", "not TOML"),
    ],
)
def test_what_is_no_grid_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "grid.toml"))
    assert "\n" not in str(caught.value)
