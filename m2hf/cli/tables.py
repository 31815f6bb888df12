"""`m2hf tables`: retrieval metrics of similarity files."""

from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import options, table_options


def tables(
    files: Annotated[list[Path], typer.Argument(help="Similarity files, RUN/similarity.h5.")],
    out: table_options.Out = None,
    json: options.Json = False,
    dsl: table_options.DualSoftmaxScales = None,
    qb_scale: table_options.QuerybankScale = None,
    kinds: options.Kinds = None,
    group_maximum: table_options.GroupMaximum = False,
) -> None:
    """Print retrieval metrics of similarity files, with the paper's results next to them."""
    from m2hf.fuse.tables.kinds import QueryKinds
    from m2hf.fuse.tables.post_processing import Ranking
    from m2hf.fuse.tables.similarity_table import SimilarityTable

    output = table_options.TableOutput(out, json)
    table = SimilarityTable(
        table_options.post_processing(dsl, qb_scale),
        Ranking(group_maximum),
        None if kinds is None else QueryKinds.read(kinds),
    )
    output.emit(table.build(files))
