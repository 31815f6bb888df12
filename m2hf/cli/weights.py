"""`m2hf weights list | pull | check`: the weight files that a recipe needs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from m2hf.cli import options
from m2hf.errors import EXIT_FAILURES, ResourceError
from m2hf.keys import canonical_json

if TYPE_CHECKING:
    from m2hf.pipelines.required_weights import RequiredWeight

_RECORDED = "the one above is recorded, and the file is checked against it from now on"

app = typer.Typer(help="List, download and check weight files.", no_args_is_help=True)


@app.command("list")
def list_(
    config: options.Config = None,
    set_: options.Set = None,
    only: options.Only = "",
    json: options.Json = False,
) -> None:
    """Print each weight file of the recipe: size, sha256, path, or how to get it."""
    from m2hf.extract.weights.folder import WeightsFolder

    found, folder = _needs(config, set_, only), WeightsFolder.default()
    if json:
        record = {"folder": str(folder.root), "weights": [need.as_json() for need in found]}
        typer.echo(canonical_json(record))
        return
    for need in found:
        typer.echo(_line(need))
    typer.echo(f"{_counts(found)}; weights folder: {folder.root}")


def pull(
    config: options.Config = None,
    set_: options.Set = None,
    only: options.Only = "",
) -> None:
    """Download missing files to the weights folder; run it again to resume."""
    from m2hf.cli.download_progress import download_progress
    from m2hf.extract.weights.folder import WeightsFolder

    folder, console = WeightsFolder.default(), Console(stderr=True)
    pulled = 0
    # A file may name further ones: the modules of a sentence encoder do.
    while lacking := [need for need in _needs(config, set_, only) if need.state != "found"]:
        for need in lacking:
            if need.weight.source is None:
                raise ResourceError(need.message)
        with folder.writing():
            for need in lacking:
                with download_progress(console, need.weight.name) as report:
                    file = need.weight.pull(report)
                typer.echo(f"{file.name}: {file.paths[0]}, sha256 {file.sha256}")
                if need.weight.source is not None and need.weight.source.unpinned:
                    typer.echo(f"{file.name}: {need.weight.source.unpinned}; {_RECORDED}")
        pulled += len(lacking)
    typer.echo(f"{pulled} weight files downloaded to {folder.root}; nothing is missing")


def check(
    config: options.Config = None,
    set_: options.Set = None,
    only: options.Only = "",
    json: options.Json = False,
) -> None:
    """Hash every weight file of the recipe and of the weights folder; exit code 3 where one is
    missing or has changed."""
    from m2hf.extract.weights.folder import WeightsFolder
    from m2hf.pipelines.required_weights import other_weights

    found, folder = _needs(config, set_, only), WeightsFolder.default()
    others = dict(other_weights(folder, found))
    wrong = [need.message for need in found if need.state != "found"]
    wrong += [f"weights {name}: {damage}" for name, damage in others.items() if damage]
    if json:
        records = [need.as_json() for need in found]
        record = {"folder": str(folder.root), "weights": records, "others": others, "wrong": wrong}
        typer.echo(canonical_json(record))
    else:
        for message in wrong:
            typer.echo(message)
        typer.echo(f"{len(found) + len(others)} weight files checked, {len(wrong)} wrong")
    if wrong:
        raise typer.Exit(EXIT_FAILURES)


app.command()(pull)
app.command()(check)


def _needs(config: options.Config, set_: options.Set, only: str) -> "list[RequiredWeight]":
    from m2hf.cli.recipe import load_recipe
    from m2hf.pipelines.config import select
    from m2hf.pipelines.required_weights import required_weights

    recipe, _ = load_recipe(config, set_)
    extract = recipe.extract
    return required_weights(extract, select(only, default=extract.extractors, known=extract.names))


def _line(need: "RequiredWeight") -> str:
    size = f"{need.size_mb:.1f} MB" if need.size_mb else "small"
    start = f"{need.weight.name} (for {', '.join(need.extractors)}; {size})"
    if need.state == "damaged":
        return f"{start}: damaged: {need.message}"
    if need.file is None:
        mark = " (pinned)" if need.weight.is_pinned else ""
        digest = f"; sha256 {need.weight.pinned}{mark}" if need.weight.pinned else ""
        source = need.weight.source
        pull = "`m2hf weights pull`, or " if source else ""
        open_ = f"; {source.unpinned}" if source and source.unpinned else ""
        return f"{start}: missing{digest}{open_}; {pull}{need.weight.get or 'give another path'}"
    where = ", ".join(str(path) for path in need.file.paths)
    origin = "pinned" if need.weight.is_pinned or need.file.place == "folder" else "found"
    return f"{start}: {need.file.place}: {where}, sha256 {need.file.sha256} ({origin})"


def _counts(found: "Sequence[RequiredWeight]") -> str:
    if not found:
        return "no weights are needed"
    lacking = sum(need.state != "found" for need in found)
    return f"{len(found)} weight files, {lacking} missing or damaged"
