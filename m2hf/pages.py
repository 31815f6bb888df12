"""How every page of m2hf is made: from templates of its package, and what is put in is escaped."""

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def templates(*packages: str, finalize: Callable[[Any], Any] | None = None) -> Environment:
    """Templates of these packages, the first that has one; a name that is not given is an error.

    finalize: what is done to each value before it is escaped.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, ".") for package in packages]),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
