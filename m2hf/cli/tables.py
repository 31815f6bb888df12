"""`m2hf tables`: retrieval metrics of similarity files."""

from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import options, table_options
from m2hf.errors import UsageError


def tables(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="[LABEL=]FILE...", help="Similarity files, RUN/similarity.h5, with labels."
        ),
    ],
    out: table_options.Out = None,
    json: options.Json = False,
    dsl: table_options.DualSoftmaxScales = None,
    qb_scale: table_options.QuerybankScale = None,
    kinds: options.Kinds = None,
    group_maximum: table_options.GroupMaximum = False,
) -> None:
    """Print retrieval metrics of similarity files, with the paper's results next to them.

    Runs that differ only in the seed are one block of rows, with their mean and deviation. Its
    heading is LABEL, which all its files have, or the settings in which it differs.
    """
    from m2hf.fuse.tables.kinds import QueryKinds
    from m2hf.fuse.tables.post_processing import Ranking
    from m2hf.fuse.tables.similarity_table import SimilarityTable

    output = table_options.TableOutput(out, json)
    table = SimilarityTable(
        table_options.post_processing(dsl, qb_scale),
        Ranking(group_maximum),
        None if kinds is None else QueryKinds.read(kinds),
    )
    labels = dict(map(_labelled, files))
    output.emit(table.build([_labelled(file)[0] for file in files], labels))


def _labelled(argument: str) -> tuple[Path, str]:
    """The path and the label of LABEL=FILE; a file whose name has a = needs no label."""
    label, equals, path = argument.partition("=")
    if not equals or Path(argument).is_file():
        return Path(argument), ""
    if not label.strip() or not path:
        raise UsageError(f"{argument}: expected LABEL=FILE, such as baseline=RUN/similarity.h5")
    return Path(path), label.strip()
