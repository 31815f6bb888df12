"""The `m2hf` command: verbs, and what an error or a signal ends it with."""

import inspect
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import typer
from rich.markup import escape

from m2hf import __version__
from m2hf.cli import (
    bundle,
    config,
    demo,
    exporting,
    extract,
    fuse,
    importing,
    init,
    manifest,
    matrices,
    options,
    report,
    search,
    show,
    sweep,
    tables,
    trace,
    upgrade,
    weights,
)
from m2hf.cli.extras import missing_extra
from m2hf.errors import EXIT_INTERRUPTED, EXIT_OK, M2hfError
from m2hf.shortage import resource_error

app = typer.Typer(
    help="Find videos by text: extract features, train the fusion, print tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(verb: Callable[..., None], name: str | None = None) -> None:
    """Add a verb; its help is shown as written, though typer reads it as rich's markup."""
    help_text = escape(inspect.getdoc(verb) or "")
    app.command(name, help=help_text)(options.command(verb))


app.add_typer(manifest.app, name="manifest")
app.add_typer(weights.app, name="weights")
for verb in (
    init.init,
    extract.plan,
    extract.extract,
    extract.status,
    extract.retry,
    extract.verify,
    upgrade.upgrade,
    show.show,
    fuse.train,
    sweep.sweep,
    tables.tables,
    matrices.matrices,
    report.report,
    trace.trace,
    bundle.bundle,
    bundle.reproduce,
    search.search,
    search.app,
    config.config,
    demo.demo,
):
    _add(verb)
_add(fuse.evaluate, "eval")
_add(importing.import_, "import")
_add(exporting.export)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(f"m2hf {__version__}")
        raise typer.Exit(EXIT_OK)


def main() -> None:
    """Entry point: prints one line for an M2hfError; any other exception is a bug."""
    signal.signal(signal.SIGTERM, _interrupt)  # what a batch system sends before it kills
    try:
        app(prog_name="m2hf")
    except M2hfError as error:
        _refuse(error)
    except ModuleNotFoundError as error:
        refused = missing_extra(error, sys.argv[1:])
        if refused is None:
            raise
        _refuse(refused)
    except SystemExit as end:  # raised by typer, also for an interrupt
        if end.code == EXIT_INTERRUPTED:
            typer.echo("m2hf: interrupted; run the same command again to resume", err=True)
        raise
    except Exception as error:
        lacking = resource_error(error, sys.argv[1] if len(sys.argv) > 1 else "start")
        if lacking is None:
            raise
        _refuse(lacking)


def _refuse(error: M2hfError) -> NoReturn:
    typer.echo(f"m2hf: {error}", err=True)
    sys.exit(error.exit_code)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
