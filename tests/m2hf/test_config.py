"""Config: defaults, overrides, and errors that name the nearest key."""

from pathlib import Path

import pytest

from m2hf.config import Section, parse, read_recipe
from m2hf.errors import ConfigError


class Inner(Section):
    threads: int = 1
    name: str = ""


class Outer(Section):
    inner: Inner = Inner()
    table: dict[str, Inner] = {}  # noqa: RUF012 - pydantic copies it


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"iner": {}}, "test: unknown key 'iner'; did you mean 'inner'?"),
        ({"inner": {"thread": 1}}, "test: unknown key 'inner.thread'; did you mean 'threads'?"),
        (
            {"table": {"a": {"thread": 1}}},
            "test: unknown key 'table.a.thread'; did you mean 'threads'?",
        ),
        ({"inner": {"xyz": 1}}, "test: unknown key 'inner.xyz'; known here: name, threads"),
    ],
)
def test_an_unknown_key_names_the_nearest(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Outer, data, "test")
    assert str(caught.value) == message


def test_a_bad_value_says_where_and_what() -> None:
    with pytest.raises(ConfigError, match=r"test: inner.threads = 'x': .*integer"):
        parse(Outer, {"inner": {"threads": "x"}}, "test")


class Far(Section):
    inner: Inner = Inner()
    other: int = 1


class Whole(Section):
    near: Inner = Inner(threads=3, name="near")
    far: Far = Far(inner=Inner(threads=4, name="far"))


@pytest.mark.parametrize(
    ("given", "near", "far"),
    [
        ({}, (3, "near"), (4, "far")),
        ({"near": {}, "far": {"inner": {}}}, (3, "near"), (4, "far")),
        ({"near": {"threads": 9}}, (9, "near"), (4, "far")),
        ({"far": {"other": 2}}, (3, "near"), (4, "far")),
        ({"far": {"inner": {"name": "x"}}}, (3, "near"), (4, "x")),
        ({"near": Inner(threads=5)}, (5, ""), (4, "far")),
    ],
)
def test_a_table_goes_over_the_default_of_its_own_field(
    given: dict[str, object], near: tuple[int, str], far: tuple[int, str]
) -> None:
    whole = parse(Whole, given)
    found = whole.near, whole.far.inner
    assert [(inner.threads, inner.name) for inner in found] == [near, far]


def test_overrides_are_toml_or_strings(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("[a]\nb = 1\nc = 2\n", encoding="utf-8")
    data = read_recipe(recipe, ["a.b=3", "a.d=ViT-B-32", "a.e=''", "f.g=[1, 2]"])
    assert data == {"a": {"b": 3, "c": 2, "d": "ViT-B-32", "e": ""}, "f": {"g": [1, 2]}}


@pytest.mark.parametrize("override", ["a", "=1", "a.b=1"])
def test_a_malformed_override_is_refused(tmp_path: Path, override: str) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("a = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="--set"):
        read_recipe(recipe, [override])
