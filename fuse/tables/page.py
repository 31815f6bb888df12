"""A table as one self-contained HTML file: no script, no font, no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from m2hf.fuse.tables.grid import Sheet
from m2hf.fuse.tables.records import json_text
from m2hf.pages import templates


def page(sheets: Sequence[Sheet], document: Mapping[str, Any], hidden: str) -> str:
    """Render sheets and the chain behind each digest; every text is escaped. hidden: the table's
    document in one line, safe inside an HTML comment."""
    return (
        templates("m2hf.fuse.tables")
        .get_template("page.html")
        .render(
            sheets=sheets,
            chains={name: json_text(chain) for name, chain in document["chains"].items()},
            comment=Markup(f"<!-- {hidden}\n-->"),  # noqa: S704 - `hidden` is safe in a comment
        )
    )
