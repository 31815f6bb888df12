"""`m2hf tables`: retrieval metrics of similarity files, or of matrices that others have scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2hf.cli import options
from m2hf.errors import UsageError

if TYPE_CHECKING:
    from m2hf.fuse.tables.given.ground_truth import AnswerFiles
    from m2hf.fuse.tables.given.matrices import GivenMatrices
    from m2hf.fuse.tables.given.matrix_table import BlendSources
    from m2hf.fuse.tables.post_processing import PostProcessing, Ranking
    from m2hf.fuse.tables.table import Table


def _named(option: str, what: str) -> typer.models.OptionInfo:
    """An option NAME=FILE.npy that may be repeated."""
    info: typer.models.OptionInfo = typer.Option(option, metavar="NAME=FILE.npy", help=what)
    return info


def tables(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Similarity files, RUN/similarity.h5.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write: .md, .tex, .csv, .json or .html.")
    ] = None,
    json: options.Json = False,
    matrix: Annotated[
        list[str] | None, _named("--matrix", "Scores of your own, texts by videos; repeatable.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option("--queries", help="Which column each row belongs to; default: row i to i."),
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
        Path | None, typer.Option("--weights", help="Weights for --fuse: TOML or JSON.")
    ] = None,
    val_matrix: Annotated[
        list[str] | None,
        _named("--val-matrix", "Validation scores, to find what --fuse reads; repeatable."),
    ] = None,
    val_queries: Annotated[
        Path | None, typer.Option("--val-queries", help="As --queries, for --val-matrix.")
    ] = None,
    tune_on_test: Annotated[
        bool,
        typer.Option("--tune-on-test", help="Find it on --matrix itself; the table will say so."),
    ] = False,
    dsl: Annotated[
        list[float] | None,
        typer.Option("--dsl", metavar="SCALE", help="Rows after dual softmax; repeatable."),
    ] = None,
    qb: Annotated[
        list[str] | None,
        _named("--qb", "Querybank of a --matrix: training queries by the same videos."),
    ] = None,
    qb_scale: Annotated[
        float, typer.Option("--qb-scale", help="Scale of querybank normalisation.")
    ] = 20.0,
    kinds: options.Kinds = None,
    group_maximum: Annotated[
        bool,
        typer.Option("--group-maximum", help="V2T ranks the videos' best captions, not captions."),
    ] = False,
) -> None:
    """Print retrieval metrics of similarity files, with the paper's line beside them, or of
    plain matrices."""
    from m2hf.atomic import atomic_text
    from m2hf.fuse.tables.formats import check_suffix, markdown, render
    from m2hf.fuse.tables.given.ground_truth import AnswerFiles
    from m2hf.fuse.tables.kinds import QueryKinds
    from m2hf.fuse.tables.post_processing import PostProcessing, Ranking
    from m2hf.fuse.tables.records import json_text, records
    from m2hf.fuse.tables.similarity_table import SimilarityTable

    if bool(files) == bool(matrix):
        raise UsageError("give similarity files, or --matrix NAME=FILE.npy, and not both")
    if out is not None:
        check_suffix(out.suffix)
    post = PostProcessing(_scales("--dsl", dsl or []), *_scales("--qb-scale", [qb_scale]))
    ranking = Ranking(group_maximum)
    if files:
        for_matrices = (queries, query_ids, video_ids, fuse, weights, val_matrix, val_queries, qb)
        if any(for_matrices) or tune_on_test:
            raise UsageError(
                "of the options, similarity files go with --out, --json, --dsl, --qb-scale, "
                "--kinds and --group-maximum; the others are for --matrix"
            )
        told_apart = None if kinds is None else QueryKinds.read(kinds)
        table = SimilarityTable(post, ranking, told_apart).build(files)
    else:
        if kinds is not None:
            raise UsageError("--kinds goes with similarity files, which have the queries' ids")
        given = _open("--matrix", matrix or [], AnswerFiles(queries, query_ids, video_ids))
        sources = _sources(weights, val_matrix or [], AnswerFiles(val_queries), tune_on_test)
        table = _of_matrices(given, fuse or [], sources, qb or [], post, ranking)
    if out is not None:
        atomic_text(out, render(table, out.suffix))
    if json:
        typer.echo(json_text(list(records(table))), nl=False)
    elif out is None:
        typer.echo(markdown(table), nl=False)
    else:
        typer.echo(f"wrote {out}")


def _of_matrices(
    given: "GivenMatrices",
    fuse: Sequence[str],
    sources: "BlendSources",
    qb: Sequence[str],
    post: "PostProcessing",
    ranking: "Ranking",
) -> "Table":
    from m2hf.fuse.tables.given.blend import Blend
    from m2hf.fuse.tables.given.matrices import open_bank
    from m2hf.fuse.tables.given.matrix_table import MatrixTable
    from m2hf.keys import sha256_file

    if not fuse and sources.given:
        raise UsageError(f"{sources.given} says how to fuse, but there is no --fuse RULE")
    blends = [sources.resolve(Blend.read(text, list(given.scores)), given) for text in fuse]
    banks = _by_name("--qb", qb)
    for name in banks:
        if name not in given.scores:
            raise UsageError(f"--qb {name}: no matrix of that name; a bank belongs to a --matrix")
    opened = {n: open_bank(f"--qb {n}={p}", p, given.shape[1]) for n, p in banks.items()}
    digests = {f"querybank {name}": sha256_file(path) for name, path in banks.items()}
    return MatrixTable(given, blends, opened, digests, post, ranking).build()


def _sources(
    weights: Path | None, val_matrix: Sequence[str], answers: "AnswerFiles", on_test: bool
) -> "BlendSources":
    from m2hf.fuse.tables.given.blend import read_terms
    from m2hf.fuse.tables.given.matrix_table import BlendSources

    if sum((weights is not None, bool(val_matrix), on_test)) > 1:
        raise UsageError("--weights, --val-matrix and --tune-on-test exclude each other; give one")
    if weights is not None:
        return BlendSources("--weights", terms=read_terms(weights))
    if val_matrix:
        validation = _open("--val-matrix", val_matrix, answers)
        return BlendSources("--val-matrix", validation=validation)
    if answers.queries is not None:
        raise UsageError("--val-queries belongs to --val-matrix, which is not given")
    return BlendSources("--tune-on-test") if on_test else BlendSources()


def _open(option: str, given: Sequence[str], answers: "AnswerFiles") -> "GivenMatrices":
    from m2hf.fuse.tables.given.matrices import GivenMatrices

    return GivenMatrices.open(_by_name(option, given), answers, option)


def _by_name(option: str, given: Sequence[str]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for entry in given:
        name, _, path = entry.partition("=")
        if not name or not path or {*name} & {",", ":"}:
            raise UsageError(f"{option} {entry}: expected NAME=FILE.npy, such as video=video.npy")
        if name in paths:
            raise UsageError(f"{option} {entry}: {name!r} is given twice")
        paths[name] = Path(path)
    return paths


def _scales(option: str, given: Sequence[float]) -> tuple[float, ...]:
    for scale in given:
        if not 0 < scale < float("inf"):
            raise UsageError(f"{option} {scale:g}: expected a number above 0, such as 100")
    return tuple(dict.fromkeys(given))
