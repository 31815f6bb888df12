"""Strict configuration: TOML recipes, --set overrides, and errors that name the nearest key."""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from m2hf.errors import ConfigError, M2hfError, UsageError
from m2hf.plain_data import read_text, shown, toml
from m2hf.printable import printable


class Section(BaseModel):
    """A part of a recipe: frozen; an unknown key is an error, and so are NaN and infinity.

    The docstring of a field becomes its `description` (`m2hf config`, docs/settings.md).

    A table given for a field is merged into that field's own default: keys that it leaves out
    are taken from the default, not from the defaults of the default's class.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {name: _over(defaults.get(name), given) for name, given in data.items()}


def _over(default: Any, given: Any) -> Any:
    """`given` merged into the fields that `default` sets explicitly; pydantic fills in the rest."""
    if not (isinstance(default, Section) and isinstance(given, Mapping)):
        return given
    explicit = {name: getattr(default, name) for name in default.model_fields_set}
    return {**explicit, **{name: _over(explicit.get(name), value) for name, value in given.items()}}


S = TypeVar("S", bound=BaseModel)


def read_recipe(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The recipe as plain data: the TOML file, then each `key.sub=value` of --set on top.

    A value is read as TOML (`3`, `true`, `["a"]`), and as a string where it is not TOML.
    Raises ConfigError for a file that is missing or isn't TOML, and for a malformed override.
    """
    data: dict[str, Any] = {}
    if path is not None:
        where = f"--config {path}"
        data = toml(read_text(path, where, ConfigError), where, ConfigError)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {override}: expected key=value, such as extract.threads=2")
        _assign(data, key.strip().split("."), _toml_value(value.strip()), override)
    return data


def parse(
    model: type[S],
    data: Mapping[str, Any],
    where: str = "config",
    error_class: type[M2hfError] = ConfigError,
) -> S:
    """Validate `data` as `model`; raises `error_class` naming the key and what was expected."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise error_class(f"{where}: {_first_problem(model, error)}") from error


def parse_json(
    model: type[S], text: str, where: str, error_class: type[M2hfError] = UsageError
) -> S:
    """Validate JSON `text`, in which a number may be NaN or infinite; raises as `parse`."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise error_class(f"{where}: {_first_problem(model, error)}") from error


def _first_problem(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    key = shown(".".join(location))[1:-1]
    if first["type"] == "extra_forbidden":
        known = sorted(_keys_at(model, location))
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        listed = f"known here: {', '.join(known)}" if known else "`m2hf config` lists all keys"
        hint = f"did you mean {near[0]!r}?" if near else listed
        return f"unknown key {key!r}; {hint}"
    if first["type"] == "missing":
        return f"no key {key!r}, which is required"
    at = f"{key} = {shown(first['input'])}: " if key else ""
    return f"{at}{printable(first['msg'].removeprefix('Value error, '))}"


def _assign(data: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {override}: {key!r} is a value, not a section")
    data[keys[-1]] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # also of an integer of thousands of digits
        return text


def _keys_at(model: type[BaseModel], location: Sequence[str]) -> Iterator[str]:
    """Field names of the section in which the last part of `location` is no key; none for a section
    of a name of the recipe's own, whose kind is not known here."""
    *parents, unknown = location
    for part in parents:
        field = model.model_fields.get(part)
        if field is None and model.model_config.get("extra") == "allow":
            return
        if field is None:  # a key of a dict of sections, or an index of a list of them
            continue
        inner = [field.annotation, *get_args(field.annotation)]
        sections = [t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)]
        if not sections:
            return
        # Of sections of several kinds, one that has the key isn't the one in which it is unknown.
        model = min(sections, key=lambda kind: unknown in kind.model_fields)
    yield from model.model_fields
