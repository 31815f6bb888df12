"""The demo: the whole job twice, by the commands that it prints; and the benchmark upon it."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from benchmarks.toybox import __main__ as benchmark

from m2hf.data_manifests.toybox.corpus import ToyboxCorpus

Command = Callable[..., "CompletedProcess[str]"]
CLIPS = 24


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, demo_weights: None, m2hf: Command) -> Path:
    """The folder in which it ran once."""
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
    assert "nothing is precomputed for this size and seed" in done.stdout
    assert "| T2V, kind motion" in done.stdout
    printed = [line for line in done.stdout.splitlines() if line.startswith("$ m2hf eval")]
    assert len(printed) == 4
    assert m2hf(*printed[0].split()[2:], cwd=demo.parent).returncode == 0


@pytest.mark.slow
def test_the_benchmark_counts_every_kind(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = ToyboxCorpus.draw(CLIPS).clips.values()
    asked = {caption.kind for clip in clips if clip.split == "test" for caption in clip.captions}
    few = ["--seeds", "2", "--set", "fuse.train.patience=1"]
    assert benchmark.main(["--data", str(demo), *few]) == 0
    grids = capsys.readouterr().out.split("**R@1 by subset of the queries: ")[1:]
    assert [grid.partition(",")[0] for grid in grids] == [
        "end_to_end",
        "ensemble",
        *["end_to_end"] * 2,
    ]
    for grid in grids:
        kinds = [line.split("|")[1].strip() for line in grid.splitlines() if "T2V, kind" in line]
        assert kinds == [f"T2V, kind {kind}" for kind in sorted(asked)]
        assert ("±" in grid) == ("train.epochs 0" not in grid.partition("**")[0])
