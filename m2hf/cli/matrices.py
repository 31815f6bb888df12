"""`m2hf matrices`: retrieval metrics of score matrices that other tools have computed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from m2hf.cli import options, table_options

_NAMED_FILE = "NAME=FILE.npy"


def matrices(
    matrix: Annotated[
        list[str],
        typer.Argument(metavar=_NAMED_FILE, help="Scores: rows are texts, columns videos."),
    ],
    queries: Annotated[
        Path | None,
        typer.Option("--queries", help="The column of each row; default: row i is column i."),
    ] = None,
    query_ids: Annotated[
        Path | None, typer.Option("--query-ids", help="Ids of the rows: a list.")
    ] = None,
    video_ids: Annotated[
        Path | None, typer.Option("--video-ids", help="Ids of the columns: a list.")
    ] = None,
    fuse: Annotated[
        list[str] | None,
        typer.Option(
            "--fuse",
            metavar="RULE[:NAME=WEIGHT,...]",
            help="Fuse matrices by a late rule; repeatable.",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Parameters of --fuse: TOML or JSON.")
    ] = None,
    val_matrix: Annotated[
        list[str] | None,
        typer.Option(
            "--val-matrix",
            metavar=_NAMED_FILE,
            help="Validation scores to tune the parameters of --fuse on; repeatable.",
        ),
    ] = None,
    val_queries: Annotated[
        Path | None, typer.Option("--val-queries", help="As --queries, for --val-matrix.")
    ] = None,
    tune_on_test: Annotated[
        bool,
        typer.Option("--tune-on-test", help="Tune on the ranked matrices; rows are flagged."),
    ] = False,
    qb: Annotated[
        list[str] | None,
        typer.Option(
            "--qb",
            metavar=_NAMED_FILE,
            help="Querybank of a matrix: training queries by the same videos; repeatable.",
        ),
    ] = None,
    qb_scale: table_options.QuerybankScale = None,
    dsl: table_options.DualSoftmaxScales = None,
    group_maximum: table_options.GroupMaximum = False,
    out: table_options.Out = None,
    json: options.Json = False,
) -> None:
    """Print retrieval metrics of score matrices from other tools, and of their late fusion."""
    from m2hf.fuse.tables.given.ground_truth import GroundTruthFiles
    from m2hf.fuse.tables.given.matrices import GivenMatrices, GivenQuerybanks
    from m2hf.fuse.tables.given.matrix_table import MatrixTable
    from m2hf.fuse.tables.given.parameter_source import ParameterSource
    from m2hf.fuse.tables.post_processing import Ranking

    output = table_options.TableOutput(out, json)
    post = table_options.post_processing(dsl, qb_scale)
    given = GivenMatrices.open(
        _paths("matrix", matrix), GroundTruthFiles(queries, query_ids, video_ids)
    )
    parameters = ParameterSource.open(
        weights,
        _paths("--val-matrix", val_matrix or ()),
        GroundTruthFiles(val_queries, option="--val-queries"),
        tune_on_test,
    )
    blends = parameters.blends(fuse or (), given)
    banks = GivenQuerybanks.open(_paths("--qb", qb or ()), given)
    output.emit(MatrixTable(given, blends, banks, post, Ranking(group_maximum)).build())


def _paths(label: str, entries: Sequence[str]) -> dict[str, Path]:
    return options.named_paths(label, entries, _NAMED_FILE, "video=video.npy", reserved=",:")
