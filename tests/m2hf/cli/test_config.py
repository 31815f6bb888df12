"""`m2hf config` and docs/settings.md: every key of a recipe, with its documentation."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from checkout import ROOT

from m2hf.cli.recipe import Recipe
from m2hf.config import Section, parse
from m2hf.fuse.config import TrainConfig
from m2hf.settings import Setting, setting_groups

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def sections(model: type[Section]) -> Iterator[type[Section]]:
    """`model` and every section in it."""
    yield model
    for field in model.model_fields.values():
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, Section):
                yield from sections(inner)


def settings(recipe: Recipe) -> dict[str, Setting]:
    groups = setting_groups(Recipe(), recipe)
    return {one.key: one for group in groups for one in group.settings}


@pytest.mark.parametrize("section", sorted({*sections(Recipe)}, key=lambda s: s.__name__))
def test_every_field_has_a_docstring(section: type[Section]) -> None:
    without = [name for name, field in section.model_fields.items() if not field.description]
    assert not without, f"{section.__name__}: {without}"


def test_every_key_is_listed_with_its_default_and_its_bounds() -> None:
    listed = settings(Recipe())
    assert len(listed) > 100
    rate = listed["fuse.train.lr"]
    assert (rate.default, rate.value, rate.type, rate.range) == (
        1e-3,
        1e-3,
        "number",
        "> 0, <= 1e+06",
    )
    assert listed["fuse.train.warmup"].range == ">= 0, < 1"
    assert listed["fuse.scoring"].choices == ("mean", "wti")
    assert listed["fuse.streams.audio"].value == "audio"
    assert listed["fuse.levels.text.stream"].value == "text"
    assert listed["extract.groups"].type == "list of lists of strings"
    assert listed["extract.clip.view.size"].type == "list of 2 integers, or unset"
    assert listed["extract.clip.view.size"].value is None
    assert "the heads" not in listed["fuse.train.patience"].doc
    assert "validation" in listed["fuse.train.patience"].doc


def test_a_key_that_is_listed_can_be_set_to_its_value() -> None:
    """Keys are those of --set: a recipe of all listed values is the default recipe."""
    data: dict[str, object] = {}
    for key, one in settings(Recipe()).items():
        *parents, last = key.split(".")
        table = data
        for parent in parents:
            table = table.setdefault(parent, {})  # type: ignore[assignment]
        if one.value is not None:
            table[last] = one.value
    assert parse(Recipe, data) == Recipe()


def test_values_are_those_of_the_recipe(tmp_path: Path, m2hf: Command) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[fuse.train]\nlr = 0.5\n[extract.encoder]\nmodel = 'm2hf-tiny'\n", "utf-8")
    done = m2hf("config", "--json", "--config", recipe, "--set", "fuse.train.epochs=3")
    listed = {one["key"]: one for one in json.loads(done.stdout)}
    lr = listed["fuse.train.lr"]
    doc = TrainConfig.model_fields["lr"].description
    assert lr == {
        "key": "fuse.train.lr", "default": 0.001, "value": 0.5, "type": "number",
        "choices": [], "range": "> 0, <= 1e+06", "doc": doc,
    }  # fmt: skip
    assert listed["fuse.train.epochs"]["value"] == 3
    assert listed["fuse.train.seed"]["value"] == listed["fuse.train.seed"]["default"] == 0
    assert listed["extract.text.encoder.model"]["value"] == "m2hf-tiny"
    refused = m2hf("config", "--set", "fuse.train.lrr=1")
    assert refused.returncode == 2
    assert "did you mean 'lr'" in refused.stderr


def test_the_terminal_is_readable_and_values_are_no_markup(
    m2hf: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    override = ("--set", 'fuse.streams.depth="[bold red]a\\u202eb\\u001b[2J"')
    done = m2hf("config", *override, "--set", "fuse.levels.d.stream=depth")
    assert done.returncode == 0, done.stderr
    assert '  fuse.streams.depth = "[bold red]a\\u202eb\\u001b[2J"  (default: unset)' in done.stdout
    assert "  fuse.levels.d.stream = " in done.stdout
    assert "  fuse.train.lr = 0.001  number > 0, <= 1e+06\n      Peak learning rate" in done.stdout
    assert "      see fuse.levels.visual.fusion\n" in done.stdout
    text = [line for line in done.stdout.splitlines() if " = " not in line]
    assert max(map(len, text)) <= 100
    assert len(text) > 100


def test_no_torch_is_loaded() -> None:
    code = """
import sys
from m2hf.cli.config import config
config(json=True)
assert not {"torch", "open_clip", "transformers", "dask"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_page_of_settings_is_current(m2hf: Command) -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    now = m2hf("config", "--markdown").stdout
    assert page == now, "run: m2hf config --markdown > docs/settings.md"
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}
