"""Zero-shot and ridge against their definitions, on the same gallery as the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2hf.cli.fuse import _beside_baselines
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate, resolve
from m2hf.fuse.features.gallery import Gallery
from m2hf.fuse.features.splits import usable_captions
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model.checkpoint import read_header
from m2hf.fuse.scores.baselines import Baselines, baselines
from m2hf.fuse.scores.metrics import t2v_ranks, text_to_video
from m2hf.fuse.scores.pooled import PooledSplit
from m2hf.fuse.scores.ridge import STRENGTHS, Ridge
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.tables.post_processing import PostProcessing
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.fuse.training.run import train
from m2hf.manifest import Manifest


@pytest.fixture(scope="module")
def found(corpus: Any, config: FusionConfig) -> Any:
    store = FeatureStore.open(corpus.store, corpus.manifest.card.name, config)
    return dict(baselines(corpus.manifest, store, config))


def test_rows_and_gallery_are_the_models(corpus: Any, run: Any, found: Any) -> None:
    file = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, run.folder))
    levels = list(file.masks)
    assert list(found) == ["zero_shot", *(f"ridge_{n}" for n in levels), "ridge_concatenated"]
    for name in levels:
        assert np.array_equal(found[f"ridge_{name}"].valid_V, file.masks[name])
        assert found[f"ridge_{name}"].scores_QV.shape == file.scores[name].shape
    assert file.baselines == {}
    missing = ~found["zero_shot"].valid_V
    assert missing.sum() == 1
    assert (found["zero_shot"].scores_QV[:, missing] == -1).all()


def test_validation_recalls_are_those_that_chose_the_strength(
    corpus: Any, short: FusionConfig, tmp_path: Path, found: Any
) -> None:
    done = train(corpus.manifest, corpus.store, tmp_path, short, with_baselines=True)
    assert list(done.baselines) == list(found)
    assert done.baselines == {name: baseline.val_recall for name, baseline in found.items()}


def test_each_regression_is_solved_once(
    corpus: Any, short: FusionConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the starts of all levels, and of the line on baselines at the end."""
    solved: list[tuple[str, ...]] = []
    solve = Ridge.__init__

    def counted(self: Ridge, part: PooledSplit, roles: Any) -> None:
        solved.append(tuple(roles))
        solve(self, part, roles)

    monkeypatch.setattr(Ridge, "__init__", counted)
    given = {**short.model_dump(), "project": ["frames"], "strategy": "ensemble"}
    config = FusionConfig.model_validate(given)
    train(corpus.manifest, corpus.store, tmp_path, config, with_baselines=True)
    assert len(set(solved)) == len(solved)
    assert ("frames",) in solved


@pytest.mark.parametrize(
    ("ours", "line"),
    [
        (30.0, "validation R@1 30.0, below baselines: ridge_visual 31.0, ridge_concatenated 40.0"),
        (40.0, "validation R@1 40.0, not below a baseline: ridge_concatenated 40.0"),
    ],
)
def test_one_line_says_whether_the_model_is_below_one(ours: float, line: str) -> None:
    theirs = {"zero_shot": 20.0, "ridge_visual": 31.0, "ridge_concatenated": 40.0}
    assert _beside_baselines(ours, theirs) == line


def test_ridge_learns_what_zero_shot_lacks(corpus: Any, found: Any) -> None:
    answers = np.arange(20)
    recall = {n: text_to_video(b.scores_QV, answers).recall[1].expected for n, b in found.items()}
    assert recall["ridge_concatenated"] > recall["ridge_visual"]
    assert recall["ridge_audio_visual"] > recall["ridge_visual"] - 5
    assert found["zero_shot"].strength is None
    assert found["ridge_concatenated"].strength in STRENGTHS


def test_weights_solve_the_normal_equations(corpus: Any, config: FusionConfig) -> None:
    store = FeatureStore.open(corpus.store, "synthetic", config)
    rows = corpus.manifest.split("train")
    part = PooledSplit.of(Gallery.of_captions(usable_captions(rows, store)), store)
    ridge = Ridge(part, ("frames", "audio"))
    x = ridge._features(part)[part.video_of_query]  # a row a caption
    targets = part.queries_QD - part.queries_QD.mean(axis=0)
    k = 0.1 * np.linalg.eigvalsh(x.T @ x).max()
    expected = np.linalg.solve(x.T @ x + k * np.eye(x.shape[1]), x.T @ targets)
    np.testing.assert_allclose(ridge.weights(0.1), expected, atol=1e-9)
    silent = ~part.present["audio"][part.video_of_query]
    assert not x[silent, 16:].any()
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-9)


def test_a_stream_that_is_missing_everywhere_changes_nothing(
    silent: Any, config: FusionConfig
) -> None:
    store = FeatureStore.open(silent.store, silent.manifest.card.name, config)
    found = dict(baselines(silent.manifest, store, config))
    visual, fused = found["ridge_visual"], found["ridge_audio_visual"]
    assert np.isfinite(fused.scores_QV).all()
    assert not found["ridge_text"].valid_V.any()
    np.testing.assert_allclose(fused.scores_QV, visual.scores_QV, atol=1e-6)


def test_evaluation_stores_them_on_request(
    corpus: Any, run: Any, found: Any, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(run.summary.checkpoint.read_bytes())
    file = SimilarityFile.read(
        evaluate(corpus.manifest, corpus.store, tmp_path, with_baselines=True)
    )
    assert list(file.baselines) == list(found)
    for name, baseline in found.items():
        stored = file.baselines[name]
        np.testing.assert_array_equal(stored.scores_QV, baseline.scores_QV)
        np.testing.assert_array_equal(stored.valid_V, baseline.valid_V)
        assert (stored.strength, stored.val_recall) == (baseline.strength, baseline.val_recall)
    file.write(tmp_path / "copy.h5")
    assert (tmp_path / "copy.h5").read_bytes() == (tmp_path / "similarity.h5").read_bytes()


def test_they_are_flagged_rows_of_the_table(
    corpus: Any, run: Any, found: Any, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(run.summary.checkpoint.read_bytes())
    path = evaluate(corpus.manifest, corpus.store, tmp_path, with_baselines=True)
    table = SimilarityTable(PostProcessing(dual_softmax=(20.0,))).build([path])
    raw, processed = table.parts[0].blocks
    rows = {row.name: row for row in raw.rows}
    for name, baseline in found.items():
        ranks = t2v_ranks(baseline.scores_QV, np.arange(20))
        assert rows[name].metrics["t2v"].mean["R@1"] == ranks.recall(1).expected
        assert "baseline" in [flag.name for flag in rows[name].flags]
        untrained = name in ("ridge_audio_visual", "ridge_concatenated")  # audio's flag
        assert ("untrained" in [flag.name for flag in rows[name].flags]) == untrained
        recall = rows["late_fusion"].metrics["t2v"].mean["R@1"] - ranks.recall(1).expected
        (note,) = [n for n in table.parts[0].notes if "late_fusion minus baselines, T2V R@1" in n]
        assert f" {name} {recall:+.1f} (" in note
    assert not any("ridge" in row.name for row in processed.rows)
    assert "baseline" not in [flag.name for flag in rows["late_fusion"].flags]


def test_a_table_of_several_models_shows_equal_baselines_once(
    corpus: Any, run: Any, found: Any, tmp_path: Path
) -> None:
    paths = []
    for rule in ("mention", "z_sum"):
        folder = tmp_path / rule
        folder.mkdir()
        (folder / "checkpoint.safetensors").write_bytes(run.summary.checkpoint.read_bytes())
        given = FusionConfig.model_validate({"late": {"rule": rule}})
        config = resolve(run.summary.checkpoint, read_header(run.summary.checkpoint), given)
        paths.append(evaluate(corpus.manifest, corpus.store, folder, config, with_baselines=True))
    (part,) = SimilarityTable().build(paths).parts
    first, second = ([row.name for row in block.rows] for block in part.blocks)
    assert set(found) < set(first)
    assert "late_fusion" in second
    assert not any(row.startswith(("zero_shot", "ridge")) for row in second)
    assert len([note for note in part.notes if "late_fusion minus baselines" in note]) == 2


def test_what_cannot_be_computed_is_a_remark(corpus: Any, run: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(run.summary.checkpoint.read_bytes())
    alone = Manifest(corpus.manifest.card, tuple(corpus.manifest.split("test")))
    remarks: list[str] = []
    path = evaluate(alone, corpus.store, tmp_path, with_baselines=True, on_remark=remarks.append)
    file = SimilarityFile.read(path)
    assert list(file.baselines) == ["zero_shot"]
    assert file.baselines["zero_shot"].val_recall is None
    assert remarks == [
        "no ridge baselines: split train: no video has frames and a caption in the store"
    ]
    names = [row.name for _, _, row in SimilarityTable().build([path]).rows()]
    assert "zero_shot" in names


def test_without_a_shared_space_there_is_no_zero_shot(corpus: Any, config: FusionConfig) -> None:
    given = FusionConfig.model_validate({**config.model_dump(), "project": ["frames"]})
    store = FeatureStore.open(corpus.store, corpus.manifest.card.name, given)
    remarks: list[str] = []
    names = Baselines.of(corpus.manifest, store, given, remarks.append).names
    assert names == [*(f"ridge_{name}" for name in given.active_levels), "ridge_concatenated"]
    assert len(remarks) == 1
    assert remarks[0].startswith("no baseline zero_shot: frames or captions are projected")
