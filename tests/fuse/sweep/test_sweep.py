"""A sweep: each run once and as `train` and `eval` make it, cells compared, failures named."""

import csv
import io
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2hf.errors import MismatchError, UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.sweep import formats
from m2hf.fuse.sweep.grid_file import GridFile
from m2hf.fuse.sweep.job import Answer
from m2hf.fuse.sweep.processes import WorkerProcesses, in_this_process
from m2hf.fuse.sweep.results import SweepResults
from m2hf.fuse.sweep.runs import SweepPlan, plan
from m2hf.fuse.sweep.sweep import Sweep
from m2hf.fuse.tables.bootstrap import paired_interval
from m2hf.fuse.training.run import train

CELLS = {
    "all": [],
    "the same": ["fuse.strategy=end_to_end"],
    "frames / only": [
        "fuse.levels.audio_visual.enabled=false",
        "fuse.levels.motion_visual.enabled=false",
        "fuse.levels.text.enabled=false",
    ],
    "diverges": ["fuse.train.lr=1e6", "fuse.train.clip=1e30", "fuse.scoring=wti"],
    "no such stream": ["fuse.streams.audio=smell"],
    "no such key": ["fuse.trian=1"],
}
GRID = GridFile.model_validate({"seeds": [0, 1], "base": "all", "cells": CELLS})


@dataclass(frozen=True)
class Swept:
    """A sweep that is complete, the recipe, and what it said of each run that ended."""

    work: Sweep
    recipe: Mapping[str, Any]
    manifest: Any
    failed: Mapping[str, str]
    ended: list[tuple[str, str]]

    def plan(self, grid: GridFile = GRID) -> SweepPlan:
        return plan(grid, self.recipe, self.manifest, self.work.store, self.work.out)


@pytest.fixture(scope="module")
def swept(corpus: Any, config: FusionConfig, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    folder = tmp_path_factory.mktemp("sweep")
    corpus.manifest.save(folder / "manifest")
    settings = config.model_dump(mode="json", exclude_unset=True)
    recipe = {"fuse": {**settings, "train": {**settings["train"], "epochs": 1}}}
    work = Sweep(folder / "manifest", corpus.store, folder / "out", "test")
    ended: list[tuple[str, str]] = []
    made = Swept(work, recipe, corpus.manifest, {}, ended)
    planned = made.plan()
    failed = work.run(
        work.missing(planned), in_this_process, lambda run, error: ended.append((str(run), error))
    )
    return Swept(work, recipe, corpus.manifest, failed, ended)


def test_impossible_cells_are_named_and_the_rest_goes_on(swept: Swept) -> None:
    planned = swept.plan()
    assert list(planned.runs) == ["all", "the same", "frames / only", "diverges"]
    assert list(planned.impossible) == ["no such stream", "no such key"]
    assert "no features of 'smell'" in planned.impossible["no such stream"]
    assert "did you mean 'train'?" in planned.impossible["no such key"]
    assert [name for name, error in swept.ended if not error] == [
        "all, seed 0", "all, seed 1", "frames / only, seed 0", "frames / only, seed 1",
    ]  # fmt: skip
    assert {name for name, error in swept.ended if error} == {
        "diverges, seed 0", "diverges, seed 1",
    }  # fmt: skip
    assert all("\n" not in error for error in swept.failed.values())


def test_a_run_is_what_train_and_eval_make(swept: Swept, corpus: Any, tmp_path: Path) -> None:
    run = swept.plan().runs["frames / only"][1]
    assert run.folder.root.name == f"frames-only-seed1-{run.key[:12]}"
    assert run.config.train.seed == 1
    train(corpus.manifest, corpus.store, tmp_path, run.config)
    evaluate(corpus.manifest, corpus.store, tmp_path, with_baselines=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.name: path.read_bytes() for path in run.folder.root.iterdir()} == made


def test_what_is_done_is_not_done_again(swept: Swept) -> None:
    planned = swept.plan()
    assert {run.cell for run in swept.work.missing(planned)} == {"diverges"}
    renamed = {"another name": CELLS["frames / only"], "new": ["fuse.late.rule=max"]}
    grid = GridFile.model_validate({"seeds": [1, 2], "cells": renamed})
    missing = [str(run) for run in swept.work.missing(swept.plan(grid))]
    assert missing == ["another name, seed 2", "new, seed 1", "new, seed 2"]


def test_a_damaged_or_another_splits_file_is_scored_again(swept: Swept, tmp_path: Path) -> None:
    shutil.copytree(swept.work.out, tmp_path / "out")
    work = Sweep(swept.work.manifest, swept.work.store, tmp_path / "out", "test")
    planned = plan(GRID, swept.recipe, swept.manifest, work.store, work.out)
    run = planned.runs["all"][0]
    path, before = run.folder.similarity, run.folder.similarity.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    kept = run.folder.checkpoint.stat().st_mtime_ns
    missing = [each for each in work.missing(planned) if each.cell != "diverges"]
    assert missing == [run]
    assert not work.run(missing, in_this_process, lambda *_: None)
    assert path.read_bytes() == before
    assert run.folder.checkpoint.stat().st_mtime_ns == kept
    on_val = Sweep(work.manifest, work.store, work.out, "val")
    assert len(on_val.missing(planned)) == len(list(planned.unique()))


def test_another_store_is_refused(
    swept: Swept, new_corpus: Callable[[Path], Any], tmp_path: Path
) -> None:
    other = new_corpus(tmp_path).store
    next((other / "synthetic").glob("audio@*/*.h5")).unlink()
    work = Sweep(swept.work.manifest, other, swept.work.out, "test")
    with pytest.raises(MismatchError, match="other shards of stream audio"):
        work.missing(plan(GRID, swept.recipe, swept.manifest, other, work.out))


def test_only_one_sweep_works_in_a_folder(swept: Swept) -> None:
    with (
        swept.work.locked(),
        pytest.raises(UsageError, match="another sweep works there"),
        swept.work.locked(),
    ):
        pass


def test_the_table_of_cells(swept: Swept) -> None:
    planned = swept.plan()
    results = SweepResults.of(planned, swept.failed, "all")
    every, same, frames = results.cells
    hits = {}
    for name in ("all", "frames / only"):
        files = [SimilarityFile.read(run.folder.similarity) for run in planned.runs[name]]
        ranks = [t2v_ranks(f.scores["late_fusion"], f.video_of_query) for f in files]
        hits[name] = [each.hit_share(1) for each in ranks]
    assert every.row.metrics["t2v"].mean["R@1"] == pytest.approx(100 * np.mean(hits["all"]))
    assert every.difference is None
    assert same.difference is not None
    assert (same.difference.mean, same.difference.low, same.difference.high) == (0, 0, 0)
    assert frames.difference is not None
    assert frames.difference.mean == pytest.approx(
        100 * (np.mean(hits["frames / only"]) - np.mean(hits["all"]))
    )
    ends = paired_interval(hits["frames / only"], hits["all"], ranks[0].video)
    assert (frames.difference.low, frames.difference.high) == ends

    means = {cell.name: np.mean(cell.val_recalls) for cell in results.cells}
    assert {cell.name for cell in results.cells if cell.best} == {
        name for name, mean in means.items() if mean == max(means.values())
    }
    written = json.loads((planned.runs["all"][1].folder.validation).read_text())
    assert every.val_recalls[1] == written["R@1"]["late_fusion"]


def test_a_cell_without_all_seeds_is_never_best(swept: Swept) -> None:
    planned = swept.plan()
    lost = planned.runs["all"][0].key
    results = SweepResults.of(planned, {**swept.failed, lost: "gone"}, "all")
    every, same, frames = results.cells
    assert (every.best, same.best, frames.best) == (False, False, True)
    assert frames.difference is not None
    assert frames.difference.seeds == 1
    assert results.lacking["all, seed 0"] == "gone"
    assert "not all seeds: all; the same" in formats.markdown(results)


def test_every_format_says_the_same(swept: Swept) -> None:
    results = SweepResults.of(swept.plan(), swept.failed, "all")
    text = formats.markdown(results)
    cells = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")][2:]
    lines = {name.split("[")[0].strip(): rest for name, *rest in cells}
    rows = {row["cell"]: row for row in csv.DictReader(io.StringIO(formats.csv_text(results)))}
    document = json.loads(formats.json(results))
    assert [cell["cell"] for cell in document["cells"]] == list(rows) == list(lines)
    for cell in document["cells"]:
        t2v = next(row for row in cell["rows"] if row["direction"] == "t2v")
        row, line = rows[cell["cell"]], lines[cell["cell"]]
        assert float(row["t2v_R@1"]) == t2v["R@1"]
        assert line[1].strip() == f"{t2v['R@1']:.1f} ± {t2v['R@1_sd']:.1f}"
        assert float(row["val_R@1"]) == pytest.approx(np.mean(cell["val_R@1"]), abs=1e-6)
        assert row["best_on_validation"] == str(cell["best_on_validation"])
        if cell["difference"]:
            assert float(row["difference"]) == cell["difference"]["mean"]
            assert line[3].strip() == f"{cell['difference']['mean']:+.1f}"
    assert set(document["without_result"]) == {
        "no such stream", "no such key", "diverges, seed 0", "diverges, seed 1",
    }  # fmt: skip
    assert "the same config, so trained once: all; the same" in text


def test_a_grid_without_any_result_is_one_line(swept: Swept) -> None:
    grid = GridFile.model_validate({"seeds": [0], "cells": {"x": ["fuse.trian=1"]}})
    with pytest.raises(UsageError, match="no run of the grid could be done: x: "):
        SweepResults.of(swept.plan(grid), {}, "")


def test_a_worker_that_dies_fails_its_job_and_another_takes_its_place(swept: Swept) -> None:
    (run, *_) = swept.plan().runs["all"]
    good = swept.work.job(run).line()
    answers = dict(WorkerProcesses(1)(["{}", good]))
    assert "its process ended with exit code 1" in Answer.parse(answers[0]).error
    assert Answer.parse(answers[1]) == Answer()
