"""Every setting of a recipe: key, default, present value, type, range and documentation."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from m2hf.config import Section

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >="}
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
_UNSET = object()


@dataclass(frozen=True)
class Setting:
    """One key of a recipe. type: a word such as "integer" or "list of strings"; choices: the
    values allowed, () for any; range: bounds such as ">= 0, < 1", "" for none. default: None
    where the recipe adds the key (a level of its own)."""

    key: str
    default: Any
    value: Any
    type: str
    choices: tuple[str, ...]
    range: str
    doc: str


@dataclass(frozen=True)
class SettingGroup:
    """The settings of one section, without those of the sections in it."""

    name: str
    doc: str
    settings: tuple[Setting, ...]


def setting_groups(default: Section, value: Section, name: str = "") -> Iterator[SettingGroup]:
    """A group for each section of `value`, parents first; `default` is the recipe without any
    file or override. A mapping in a section is a group too, with a key for each entry."""
    for field_name, field in type(value).model_fields.items():
        key = f"{name}.{field_name}" if name else field_name
        given = getattr(value, field_name)
        if isinstance(given, Section | Mapping):
            yield from _nested(key, field, getattr(default, field_name, _UNSET), given)
    for own, section in (value.model_extra or {}).items():  # of names that the recipe gives
        yield from _nested(f"{name}.{own}", FieldInfo(), _UNSET, section)


def _nested(
    key: str, field: FieldInfo, default: Any, value: Section | Mapping[str, Any]
) -> Iterator[SettingGroup]:
    doc = _one_line(field.description or "")
    if isinstance(value, Section):
        own = type(value).model_fields
        settings = tuple(
            _setting(f"{key}.{name}", inner, getattr(default, name, None), getattr(value, name))
            for name, inner in own.items()
            if not isinstance(getattr(value, name), Section | Mapping)
        )
        yield SettingGroup(key, doc, settings)
        yield from setting_groups(default, value, key)
        return
    known = default if isinstance(default, Mapping) else {}
    entries = {name: entry for name, entry in value.items() if not isinstance(entry, Section)}
    annotation = get_args(field.annotation)[-1]
    yield SettingGroup(
        key,
        doc,
        tuple(
            Setting(f"{key}.{name}", known.get(name), entry, _type(annotation), (), "", doc)
            for name, entry in entries.items()
        ),
    )
    for name, entry in value.items():
        if isinstance(entry, Section):
            default_entry = known.get(name, _UNSET)
            yield from _nested(f"{key}.{name}", FieldInfo(), default_entry, entry)


def _setting(key: str, field: FieldInfo, default: Any, value: Any) -> Setting:
    literal = get_origin(field.annotation) is Literal
    bounds = (
        f"{sign} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, sign in _BOUNDS.items()
        if hasattr(bound, name)
    )
    return Setting(
        key=key,
        default=default,
        value=value,
        type=_type(field.annotation),
        choices=tuple(map(str, get_args(field.annotation))) if literal else (),
        range=", ".join(bounds),
        doc=_one_line(field.description or ""),
    )


def _type(annotation: Any) -> str:
    """A TOML value of this annotation, in words."""
    if annotation in _TYPES:
        return _TYPES[annotation]
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _type(type(inside[0]))
    if origin is tuple and inside[-1] is ...:
        return f"list of {_plural(_type(inside[0]))}"
    if origin is tuple:
        return f"list of {len(inside)} {_plural(_type(inside[0]))}"
    if origin in (Union, types.UnionType):
        return " or ".join(_type(one) for one in inside if one is not type(None)) + ", or unset"
    raise TypeError(f"a setting of type {annotation}: say in m2hf.settings how TOML writes it")


def _plural(word: str) -> str:
    return word.replace("list", "lists", 1) if word.startswith("list") else f"{word}s"


def _one_line(doc: str) -> str:
    return " ".join(doc.split())
