"""The benchmarks of fusion: their data, their rows as configs, and their reports."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.extraction import asr
from benchmarks.levels import corpus, matrices, report, rows, run
from benchmarks.levels.__main__ import main
from benchmarks.metrics import __main__ as metrics
from benchmarks.metrics import sorting
from benchmarks.scoring import __main__ as scoring
from benchmarks.scoring import gallery
from benchmarks.search import __main__ as search
from checkout import ROOT

from m2hf.fuse.config import FusionConfig
from m2hf.fuse.scores.metrics import t2v_ranks, v2t_ranks
from m2hf.layout import StoreLayout
from m2hf.shard import Shard, ShardItem

TINY = corpus.Sizes(train=24, val=8, test=10, captions=2)
QUICK = ("fuse.train.epochs=1", "fuse.model.width=16", "fuse.model.heads=2")


def stored(root: Path, stream: str) -> dict[str, ShardItem]:
    layout = StoreLayout(root, corpus.NAME)
    paths = layout.shards(layout.find_stream(stream))
    return {item.id: item for path in paths for item in Shard.open(path).items()}


def test_missing_items_are_nested_and_leave_other_features_equal(tmp_path: Path) -> None:
    setting = corpus.SETTINGS["imbalanced"]
    items = {}
    for share in (0.0, 0.5, 1.0):
        root = tmp_path / str(share)
        corpus.write(root, setting, 0, {"words": share}, TINY)
        items[share] = stored(root, "text")
        for stream in ("clip", "audio", "motion", "caption"):
            same = stored(tmp_path / "0.0", stream)
            for item, found in stored(root, stream).items():
                np.testing.assert_array_equal(found.features.values, same[item].features.values)
    present = {s: {i for i, x in of.items() if len(x.features.values)} for s, of in items.items()}
    assert present[0.0] > present[0.5] > present[1.0] == set()
    for item in present[0.5]:
        full, left = items[0.0][item].features.values, items[0.5][item].features.values
        np.testing.assert_array_equal(full, left)


def test_default_shares_of_missing_items(tmp_path: Path) -> None:
    sizes = replace(TINY, train=600)
    corpus.write(tmp_path, corpus.SETTINGS["imbalanced"], 1, {}, sizes)
    for stream, share in (("audio", 0.12), ("text", 0.40), ("clip", 0.0), ("motion", 0.0)):
        items = stored(tmp_path, stream).values()
        empty = np.mean([not len(item.features.values) for item in items])
        assert empty == pytest.approx(share, abs=0.05), stream


def test_every_row_is_a_valid_config_and_has_its_own_name() -> None:
    names = [run.row_name(row, setting) for row in rows.ROWS for setting in row.settings]
    assert len(names) == len(set(names))
    for row in rows.ROWS:
        config = rows.config_of(row.set, seed=3)
        assert isinstance(config, FusionConfig)
        assert config.train.seed == 3
        rows.scoring_of(row.score)
        assert set(row.missing) <= set(corpus.FACTORS)
        assert set(row.settings) <= set(corpus.SETTINGS)
    assert {"visual", "audio_visual", "motion_visual", "text", "late_fusion"} <= set(names)


def test_rows_that_set_the_same_share_a_training() -> None:
    same = [
        rows.Ablation("a", "g"),
        rows.Ablation("b", "g", read=("visual",)),
        rows.Ablation("c", "g", ("x=1",)),
    ]
    todo = run.tasks(same, seeds=range(2))
    assert len(todo) == 4
    assert all(len(task.trainings) == 2 for task in todo)
    assert [reading.read for reading in todo[0].trainings[()]] == [("late_fusion",), ("visual",)]


def test_results_of_two_seeds() -> None:
    picked = (
        rows.Ablation("visual", rows.ALONE, rows.alone("visual"), settings=("balanced",)),
        rows.Ablation("all", "fused", settings=("balanced",)),
        rows.Ablation("mean", "fused", read=("visual", "text"), settings=("balanced",)),
        rows.Ablation("broken", "fused", ("fuse.streams.text=nosuch",), settings=("balanced",)),
    )
    outcomes: run.TrainingOutcomes = {}
    seeds = range(3, 5)
    for _, found in run.run(run.tasks(picked, seeds), workers=1, scale=0.03, more=QUICK):
        outcomes |= found
    results = report.as_json(picked, seeds, outcomes)
    table = results["rows"]
    assert list(table) == ["balanced/visual", "balanced/all", "balanced/mean", "balanced/broken"]
    assert all(len(table[name]["r1"]) == 2 for name in table)
    assert all(0 <= value <= 100 for value in table["balanced/mean"]["r1"])
    assert set(table["balanced/all"]["levels"]) >= {"visual", "text", "late_fusion"}
    assert table["balanced/broken"]["r1"] == [None, None]
    assert "nosuch" in table["balanced/broken"]["failed"][0]
    printed = report.markdown(picked, json.loads(json.dumps(results)))
    assert "### fused, balanced" in printed
    assert "over 2 seeds from 3" in printed
    assert "to visual" in printed
    assert "| broken | failed |" in printed


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    group = ("--only", rows.SMALL_SET, "--seeds", "1", "--scale", "0.1", "--workers", "1")
    quick = (part for setting in QUICK for part in ("--set", setting))
    assert main([*group, "--json", str(out), *quick]) == 0
    assert "| late_fusion |" in capsys.readouterr().out
    written = json.loads(out.read_text(encoding="utf-8"))
    assert len(written["rows"]["small/late_fusion"]["r1"]) == 1
    assert written["rows"]["small/ridge_concatenated"]["r1"][0] > 0
    assert written["rows"]["small/ridge_concatenated"]["levels"] == {}
    assert written["machine"]
    assert main(["--only", "nosuch"]) == 2
    assert "no such group" in capsys.readouterr().err


def test_the_search_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert search.main(["--videos", "20", "--queries", "2"]) == 0
    assert "| 20 | " in capsys.readouterr().out


def test_benchmarks_import_public_modules_of_fusion_and_stay_small() -> None:
    public = {
        "config",
        "level_table",
        "training.run",
        "evaluation.evaluate",
        "model.tokens",
        "model.calibration",
    }
    public |= {"features.store", "run_folder", "tables.bootstrap"}
    public |= {"scores.metrics", "scores.baselines", "scores.late_rules", "scores.similarity_file"}
    public |= {"scores.pooled", "scores.ridge"}
    public |= {"features.gallery", "distributed", "model.scorers"}  # of `benchmarks.ratios`
    public |= {"training.balance", "training.stage", "training.trainer"}
    public |= {"search.index", "search.searcher", "tables.similarity_table", "tables.kinds"}
    for path in (ROOT / "benchmarks").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("m2hf.fuse"):
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                for name in whole if node.module == "m2hf.fuse" else [node.module or ""]:
                    assert name.removeprefix("m2hf.fuse.") in public, path


def test_matrices_are_fused_with_a_calibration_of_other_videos(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, noise in zip(matrices.FILES, (0.5, 1.0), strict=True):
        made = np.eye(60) + noise * rng.normal(size=(60, 60))
        np.save(tmp_path / name, made.astype(np.float32))
    found = matrices.measure(tmp_path, seeds=2, workers=1)
    assert list(found) == ["0%", "20%", "40%", "60%", "80%", "100%"]
    for rule in ("affine", "sum", "max"):  # only the complete level is left
        assert found["100%"][rule] == found["100%"][matrices.WHOLE]
    assert found["0%"]["affine"] != found["0%"][matrices.WHOLE]
    np.testing.assert_allclose(*found["0%"]["sum"])  # a seed changes the halves, not the data
    assert "| affine |" in matrices.markdown(found)
    few = matrices.measure(tmp_path, seeds=1, workers=1, fitted=10)
    assert few["100%"]["mention"] == few["100%"][matrices.WHOLE]
    assert "Fitted on 10 videos" in matrices.markdown(few, fitted=10)


def test_the_metrics_benchmark_compares_equal_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_in_subprocess", metrics.measure)  # starting processes is slow
    assert metrics.main(["--scale", "0.01"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 6
    assert printed[2].startswith("| 277 x 6 (MSVD) | T2V |")
    rng = np.random.default_rng(0)
    scores, ground_truth = rng.permuted(np.arange(600.0)).reshape(30, 20), rng.integers(0, 20, 30)
    for ours, other in ((t2v_ranks, sorting.t2v_ranks), (v2t_ranks, sorting.v2t_ranks)):
        assert np.array_equal(ours(scores, ground_truth).expected, other(scores, ground_truth))


def test_scoring_stays_within_its_memory_limit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matrices take 76 MiB, and scoring in one piece would hold most of them twice."""
    small = gallery.GallerySize(2000, 2000, rows=2, words=2, width=16)
    monkeypatch.setitem(scoring.SIZES, "activitynet", small)
    assert scoring.main(["--memory", "60"]) == 0
    found = {
        cells[1].strip(): [float(cell) for cell in cells[2:-1]]
        for line in capsys.readouterr().out.splitlines()[3:]
        for cells in [line.split("|")]
    }
    assert list(found) == ["eval", "tables"]
    assert found["eval"][3] == found["tables"][3] == 76
    assert 5 < found["eval"][1] <= 60
    assert found["tables"][1] <= 50


def test_word_error_rate_with_and_without_flagged_segments() -> None:
    assert asr.edits(["a", "b", "c", "d"], ["a", "x", "c"]) == 2
    assert asr.edits([], ["a"]) == asr.edits(["a"], []) == 1

    def transcripts(*segments: tuple[str, bool]) -> list[asr.Transcript]:
        lines = tuple(
            asr.TranscribedSegment(0.0, 1.0, text, (0.0,) * 4, flagged)
            for text, flagged in segments
        )
        return [asr.Transcript("one", 2.0, 0.5, lines)]

    rows = asr.table(
        {
            "plain": transcripts(("Hello, you!", False), ("no no", True)),
            "other": transcripts(("hello you", False)),
            "silent": transcripts(),
        }
    )
    assert rows[3] == "| other | 2.0 | 1.00 | 50% | 50.0% | 0.0% | none | none | 0 |"
    assert rows[4] == "| silent | 2.0 | 1.00 | 50% | 100.0% | 100.0% | one | none | 0 |"
    assert asr.hallucinations({"plain": transcripts(("no | no", True))})[2:] == [
        "| plain | one | 0.0 to 1.0 | 0.00 | 0.00 | 0.00 | 0.00 | no / no |"
    ]
