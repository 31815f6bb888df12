"""The fuzzer: its sound files are accepted, it counts what is wrong, and a part of it runs here."""

from pathlib import Path
from random import Random

import pytest
from benchmarks.fuzz import __main__ as command_line
from benchmarks.fuzz import damage, run, sound_files
from benchmarks.fuzz.command import Ending, Outcome, ending
from benchmarks.fuzz.command import run as run_command
from benchmarks.fuzz.formats import FORMATS, Format
from benchmarks.fuzz.worker import case

HDF5 = {"shard", "similarity file"}
CASES = 4


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    sound_files.make(folder)
    return folder


@pytest.mark.parametrize("chosen", FORMATS, ids=lambda each: each.name)
def test_sound_files_are_accepted_and_damaged_ones_end_in_one_line(
    sound: Path, chosen: Format
) -> None:
    unharmed = Format(chosen.name, chosen.files, lambda _, data: data, chosen.commands)
    assert case(sound, unharmed, "sound") == Ending(Outcome.ACCEPTED)
    for number in range(0 if chosen.name in HDF5 else CASES):
        ended = case(sound, chosen, f"test {number}")
        assert ended.outcome in (Outcome.ACCEPTED, Outcome.REFUSED), ended.said


def test_equal_seeds_do_equal_damage() -> None:
    data = b'{"a": [1, 2, {"b": "c"}], "d": 1.5}'
    changed = [damage.of_json(Random(seed), data) for seed in range(50)]
    assert changed == [damage.of_json(Random(seed), data) for seed in range(50)]
    assert len({*changed} - {data}) > 20


def test_a_process_that_hangs_or_dies_is_counted(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = run.fuzz(sound, "no such format", 0, 1)
    assert (died.tried, died.outcomes) == (1, {Outcome.TRACEBACK: 1})
    assert "seed '0 no such format 0': the process ended by 1: Traceback" in died.wrong[0]
    monkeypatch.setattr(run, "LIMIT_S", 0.05)  # less than starting takes
    hung = run.fuzz(sound, "card.toml", 0, 2)
    assert (hung.tried, hung.outcomes) == (2, {Outcome.HANG: 2})


@pytest.mark.parametrize(
    ("code", "said", "outcome"),
    [
        (0, "", Outcome.ACCEPTED),
        (3, "", Outcome.ACCEPTED),
        (2, "a.toml: not TOML", Outcome.REFUSED),
        (2, "one\ntwo", Outcome.TRACEBACK),
        (2, "", Outcome.TRACEBACK),
        (1, "a bug", Outcome.TRACEBACK),
    ],
)
def test_what_an_exit_code_amounts_to(code: int, said: str, outcome: Outcome) -> None:
    assert ending(code, said).outcome is outcome


def test_a_command_that_raises_is_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m2hf.manifest.Manifest.load", lambda _: 1 / 0)
    ended = run_command(["manifest", "check", str(tmp_path)], tmp_path)
    assert ended.outcome is Outcome.TRACEBACK
    assert "ZeroDivisionError" in ended.said


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--count", "3", "--only", "card.toml"]) == 0
    header, _, line = capsys.readouterr().out.splitlines()
    assert header.startswith("| format | tried | refused | accepted | tracebacks | hangs |")
    assert line.startswith("| card.toml | 3 | ")
    with pytest.raises(SystemExit):
        command_line.main(["--only", "nosuch"])
