"""Options that verbs share: expanded for the command line, and NAME=PATH."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from m2hf.cli import options
from m2hf.cli.app import app
from m2hf.errors import UsageError


def test_a_verb_gets_its_shared_options_as_values() -> None:
    seen: list[Any] = []

    def verb(
        on: options.JobOptions, by: options.ExecutorOptions, json: options.Json = False
    ) -> None:
        seen.extend([on, by, json])

    small = typer.Typer()
    small.command()(options.command(verb))
    paths = ["--manifest", "m", "--media", "v", "--store", "s"]
    done = CliRunner().invoke(small, [*paths, "--set", "a=1", "--workers", "2", "--json"])
    assert done.exit_code == 0, done.output
    given = (Path("m"), Path("v"), Path("s"))
    assert seen == [
        options.JobOptions(*given, set_=["a=1"]), options.ExecutorOptions(workers=2), True
    ]  # fmt: skip
    missing = CliRunner().invoke(small, paths[:4])
    assert missing.exit_code == 2


def test_brackets_in_help_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer reads help as markup, which would swallow the name of an extra."""
    monkeypatch.setenv("COLUMNS", "200")
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if not hasattr(command, "commands"):
            shown = CliRunner().invoke(app, [name, "--help"]).stdout
            for word in inspect.getdoc(command.callback).split():
                assert word in shown, f"{name}: {word}"


def test_named_paths() -> None:
    def named(*given: str) -> dict[str, Path]:
        return options.named_paths("--matrix", given, "NAME=FILE", "a=a.npy", reserved=",:")

    assert named() == {}
    assert named("a=x", "b=y=z") == {"a": Path("x"), "b": Path("y=z")}
    for bad in ("a", "=x", "a=", "a,b=x", "a:b=x"):
        with pytest.raises(UsageError, match=f"--matrix {bad}: expected NAME=FILE, such as a=a"):
            named(bad)
    with pytest.raises(UsageError, match="--matrix a=y: 'a' is given twice"):
        named("a=x", "a=y")
