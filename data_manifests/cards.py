"""The dataset cards that ship with m2hf: `<name>.toml` in this folder."""

import tomllib
from importlib.resources import files

from m2hf.config import parse
from m2hf.manifest import Card


def names() -> list[str]:
    """The names of all cards, sorted."""
    found = (entry.name for entry in files(__package__).iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def read(name: str) -> Card:
    """The card of one of `names`."""
    text = (files(__package__) / f"{name}.toml").read_text(encoding="utf-8")
    return parse(Card, tomllib.loads(text), f"{name}.toml")
