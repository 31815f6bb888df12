"""`m2hf sweep`: killed and resumed it ends with the same files, and it says what it lacks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from searchable import Searchable
from typer.testing import CliRunner

from m2hf.cli.app import app
from m2hf.errors import UsageError

Command = Callable[..., "subprocess.CompletedProcess[str]"]

GRID = """
seeds = [0, 1, 2]
base = "frames"
[cells]
frames = ["fuse.levels.text.enabled=false"]
impossible = ["fuse.levels.text.stream=smell"]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Searchable:
    made = Searchable(tmp_path_factory.mktemp("sweep"))
    (made.folder / "grid.toml").write_text(GRID, encoding="utf-8")
    return made


def command(data: Searchable, out: str, *options: object) -> list[str]:
    off = [f"fuse.levels.{n}.enabled=false" for n in ("audio_visual", "motion_visual")]
    sets = [*off, "fuse.model.width=16", "fuse.model.heads=2", "fuse.train.epochs=1"]
    made = ["sweep", data.folder / "grid.toml", *data.paths[:4], "--out", data.folder / out]
    return [*map(str, [*made, *options]), *(part for each in sets for part in ("--set", each))]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_killed_and_resumed_it_ends_with_the_same_files(data: Searchable, m2hf: Command) -> None:
    whole = m2hf(*command(data, "whole"))
    assert whole.returncode == 3, whole.stderr
    said = [line for line in whole.stderr.splitlines() if not line.startswith("[")]
    assert said[0].startswith("impossible: impossible: fuse: level 'text' reads stream 'smell'")
    assert said[1] == "1 cells x 3 seeds: 3 runs, 3 to do"
    assert "no result: impossible: fuse: level 'text'" in whole.stdout

    m2hf_ = str(Path(sys.executable).parent / "m2hf")
    cut = data.folder / "cut"
    with subprocess.Popen(
        [m2hf_, *command(data, "cut", "--workers", 2)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as driver:
        while not list(cut.glob("runs/*/similarity.h5")):
            assert driver.poll() is None
            time.sleep(0.02)
        workers = psutil.Process(driver.pid).children(recursive=True)
        os.kill(driver.pid, signal.SIGKILL)
    assert len(workers) == 2
    psutil.wait_procs(workers, timeout=60)
    assert not [worker for worker in workers if worker.is_running()]
    assert not (cut / "sweep.md").exists()
    kept = {p: p.stat().st_mtime_ns for p in cut.glob("runs/*/similarity.h5")}

    again = m2hf(*command(data, "cut"))
    assert again.returncode == 3, again.stderr
    assert f"3 runs, {3 - len(kept)} to do" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert files(cut) == files(data.folder / "whole")
    assert again.stdout.splitlines()[:-1] == whole.stdout.splitlines()[:-1]

    traced = m2hf("trace", cut / "table.md", "late_fusion@frames", "--store", data.store)
    assert traced.returncode == 0, traced.stdout
    assert len(json.loads((cut / "sweep.json").read_text())["cells"]) == 1


def test_bad_input_is_one_line(data: Searchable) -> None:
    def refused(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert isinstance(done.exception, UsageError)
        assert "\n" not in str(done.exception)
        return str(done.exception)

    both = ("--workers", "1", "--scheduler", "tcp://127.0.0.1:9")
    assert "exclude each other" in refused(*command(data, "bad", *both))
    assert "unknown key" in refused(*command(data, "bad", "--set", "fuse.trian=1"))
    unknown = refused("sweep", "ablation", *data.paths[:4], "--out", str(data.folder / "bad"))
    assert "GRID ablation: no such file, and no grid of that name" in unknown
    assert "shipped: ablations" in unknown
