"""What `m2hf tables` and `m2hf matrices` share: options, and how a table is printed or written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2hf.errors import UsageError

if TYPE_CHECKING:
    from m2hf.fuse.tables.post_processing import PostProcessing
    from m2hf.fuse.tables.table import Table

Out = Annotated[
    Path | None, typer.Option("--out", help="File to write: .md, .tex, .csv, .json or .html.")
]
DualSoftmaxScales = Annotated[
    list[float] | None,
    typer.Option("--dsl", metavar="SCALE", help="Add rows after dual softmax; repeatable."),
]
QuerybankScale = Annotated[
    float | None,
    typer.Option("--qb-scale", help="Scale of querybank normalisation.", show_default="20"),
]
GroupMaximum = Annotated[
    bool,
    typer.Option(
        "--group-maximum", help="V2T ranks videos by their best caption, not single captions."
    ),
]


def post_processing(dsl: Sequence[float] | None, qb_scale: float | None) -> "PostProcessing":
    """The post-processing that --dsl and --qb-scale ask for; raises UsageError for a scale that
    isn't a positive number."""
    from m2hf.fuse.tables.post_processing import PostProcessing

    dual_softmax = tuple(dict.fromkeys(_scale("--dsl", scale) for scale in dsl or ()))
    if qb_scale is None:
        return PostProcessing(dual_softmax)
    return PostProcessing(dual_softmax, _scale("--qb-scale", qb_scale))


@dataclass(frozen=True)
class TableOutput:
    """Where a table goes. path: the file to write, None for stdout; json: print records as JSON.

    Raises UsageError for a path that no table format has the suffix of.
    """

    path: Path | None
    json: bool

    def __post_init__(self) -> None:
        from m2hf.fuse.tables.formats import check_suffix

        if self.path is not None:
            check_suffix(self.path.suffix)

    def emit(self, table: "Table") -> None:
        """Write the file, if there is one, and print: records, the table, or the file's path."""
        from m2hf.atomic import atomic_text
        from m2hf.fuse.tables.formats import markdown, render
        from m2hf.fuse.tables.records import json_text, records

        if self.path is not None:
            atomic_text(self.path, render(table, self.path.suffix))
        if self.json:
            typer.echo(json_text(list(records(table))), nl=False)
        elif self.path is None:
            typer.echo(markdown(table), nl=False)
        else:
            typer.echo(f"wrote {self.path}")


def _scale(option: str, scale: float) -> float:
    if not 0 < scale < float("inf"):
        raise UsageError(f"{option} {scale:g}: expected a number above 0, such as 100")
    return scale
