"""Config: defaults, overrides, and errors that name the nearest key."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import tomli_w
from annotated_types import Le, Lt
from hypothesis import given, settings
from mutations import mutated, refused_in_one_line
from pydantic import BaseModel

from m2hf.cli.recipe import Recipe, load_recipe
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


RECIPE = {
    "extract": {
        "extractors": ["clip", "caption"], "threads": 2, "buckets": 4, "groups": [["clip"]],
        "cluster": {"wait_s": 1.5}, "encoder": {"model": "m2hf-tiny"},
    },
    "fuse": {
        "streams": {"audio": "logmel"}, "levels": {"text": {"stream": "text", "enabled": False}},
        "project": ["frames"], "model": {"width": 32}, "late": {"rule": "sum"},
        "train": {"epochs": 2, "lr": 0.001}, "precision": "fp32",
    },
}  # fmt: skip


@given(mutated(RECIPE))
@settings(deadline=None, max_examples=150)
def test_any_damage_to_a_recipe_is_an_error_of_one_line_or_a_recipe(data: Any) -> None:
    try:
        text = tomli_w.dumps(data)
        text.encode()
    except (TypeError, AttributeError, ValueError):  # what TOML can't hold, such as null
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        with refused_in_one_line(ConfigError):
            recipe, _ = load_recipe(path, [])
            assert Recipe.model_validate(recipe.model_dump()) == recipe


@pytest.mark.parametrize("content", [b"\xff", b'a = "\\u0000"', b"a = " + b"[" * 100_000])
def test_a_recipe_that_is_no_text_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^--config .*recipe.toml: not (UTF-8|TOML)"):
        read_recipe(path)


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_recipe(path) == {"a": 1}


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000])
def test_a_set_value_that_is_not_toml_is_a_string(value: str) -> None:
    assert read_recipe(None, [f"a={value}"]) == {"a": value}


def integers(model: type[BaseModel], path: str) -> Iterator[tuple[str, list[Any]]]:
    """The key of each integer of a section, and the bounds on it."""
    for name, field in model.model_fields.items():
        parts = [field.annotation, *get_args(field.annotation)]
        if field.annotation is int:
            yield f"{path}.{name}", field.metadata
        for part in parts:
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from integers(part, f"{path}.{name}")


@pytest.mark.parametrize(
    ("path", "bounds"),
    [*integers(Recipe, "recipe")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_number_that_becomes_a_loop_or_an_array_has_a_most(
    path: str, bounds: list[Any]
) -> None:
    if ".media." in path or ".view." in path:  # limits of the decoder, not sizes
        return
    assert any(isinstance(bound, Le | Lt) for bound in bounds), path


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_no_number_is_infinite(value: str) -> None:
    for key in ("fuse.train.lr", "extract.flow.window_s", "fuse.levels.text.weight"):
        with pytest.raises(ConfigError, match=f"{key.partition('.')[2]}"):
            load_recipe(None, [f"{key}={value}"])
