"""Runs a command of m2hf in this process, or as one, and says how it ended."""

import contextlib
import io
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import typer.main

from m2hf.cli.app import app
from m2hf.errors import EXIT_FAILURES, EXIT_OK, EXIT_USAGE, M2hfError

_M2HF = str(Path(sys.executable).with_name("m2hf"))
_LONGEST = 4000  # characters of a message, which quotes shortened values


class Outcome(StrEnum):
    """How a command ended: refused in one line, accepted, or in one of two wrong ways."""

    REFUSED = "refused"
    ACCEPTED = "accepted"
    TRACEBACK = "traceback"
    HANG = "hang"


@dataclass(frozen=True)
class Ending:
    """said: the message of a refusal, or what is wrong; code: the exit code of an acceptance."""

    outcome: Outcome
    said: str = ""
    code: int = EXIT_OK


def run(arguments: Sequence[str], folder: Path) -> Ending:
    """Run `m2hf` with these arguments in this process; its weights folder is `folder`/weights."""
    os.environ["M2HF_WEIGHTS"] = str(folder / "weights")
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            command = typer.main.get_command(app)
            code = command.main([*arguments], prog_name="m2hf", standalone_mode=False)
    except M2hfError as error:
        return ending(error.exit_code, str(error))
    except Exception:  # noqa: BLE001 - whatever a command raises is the finding
        return Ending(Outcome.TRACEBACK, traceback.format_exc())
    return ending(code or EXIT_OK, "")


def run_process(arguments: Sequence[str], folder: Path, limit_s: float) -> Ending:
    """The same as a process of its own."""
    environment = {**os.environ, "M2HF_WEIGHTS": str(folder / "weights")}
    try:
        done = subprocess.run(
            [_M2HF, *arguments], env=environment, capture_output=True, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return Ending(Outcome.HANG, f"not finished after {limit_s} s")
    said = done.stderr.decode(errors="replace").strip()
    if "Traceback" in said:
        return Ending(Outcome.TRACEBACK, said)
    return ending(done.returncode, said.rpartition("m2hf: ")[2])


def ending(code: int, said: str) -> Ending:
    """What an exit code and a message amount to."""
    if code in (EXIT_OK, EXIT_FAILURES):
        return Ending(Outcome.ACCEPTED, code=code)
    if code != EXIT_USAGE:
        return Ending(Outcome.TRACEBACK, f"exit code {code}: {said}")
    if "\n" in said.strip() or not said or len(said) > _LONGEST:
        return Ending(Outcome.TRACEBACK, f"not one line: {said}")
    return Ending(Outcome.REFUSED, said)
