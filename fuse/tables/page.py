"""A table as one HTML file that needs nothing else: no script, no font, no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from m2hf.fuse.tables.grid import Sheet
from m2hf.fuse.tables.records import json_text


def page(sheets: Sequence[Sheet], document: Mapping[str, Any], hidden: str) -> str:
    """Sheets with the chain behind each digest; every text is escaped. hidden: the table's document
    in one line that ends no comment."""
    environment = Environment(
        loader=PackageLoader("m2hf.fuse.tables", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(
        sheets=sheets,
        chains={name: json_text(chain) for name, chain in document["chains"].items()},
        comment=Markup(f"<!-- {hidden}\n-->"),  # noqa: S704 - escaped where it was made
    )
