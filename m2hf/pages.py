"""The Jinja environment of all HTML pages: templates of a package, values escaped."""

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def templates(*packages: str, finalize: Callable[[Any], Any] | None = None) -> Environment:
    """Templates of these packages, searched in order; an undefined name is an error.

    finalize: applied to each value before it is escaped.
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
