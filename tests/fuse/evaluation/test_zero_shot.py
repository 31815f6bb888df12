"""`m2hf eval --zero-shot`: an untrained run whose scores are cosines and their weighted sum."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2hf.errors import ConfigError, UsageError
from m2hf.features import unit_rows
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.evaluation.zero_shot import without_training, write_untrained
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import CAPTIONS, LATE_FUSION
from m2hf.fuse.model.late_fusion import AffineFusion
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.search.index import SearchIndex
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.fuse.training.run import train
from m2hf.manifest import Manifest

TEXT = {"stream": "text", "weight": 2.5, "centre": 0.2}
CONFIG = FusionConfig.model_validate({"levels": {"text": TEXT}, "model": {"width": 16, "heads": 2}})


@pytest.fixture(scope="module")
def scored(corpus: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zero_shot") / "new" / "run"
    write_untrained(corpus.manifest, corpus.store, folder, CONFIG)
    return evaluate(corpus.manifest, corpus.store, folder)


def _pooled(store: FeatureStore, role: str, ids: tuple[str, ...]) -> Any:
    """Unit mean rows, from the stored items."""
    means = [np.mean(store[role].features(i).values, axis=0, dtype=np.float64) for i in ids]
    return unit_rows(np.stack(means))


def test_scores_are_cosines_and_their_weighted_sum(corpus: Any, scored: Path) -> None:
    file = SimilarityFile.read(scored)
    store = FeatureStore.open(corpus.store, "synthetic", without_training(CONFIG))
    queries = unit_rows(
        np.stack([store[CAPTIONS].features(q).values[0] for q in file.query_ids]).astype(float)
    )
    total = np.zeros(file.scores[LATE_FUSION].shape)
    assert list(file.masks) == ["visual", "text"]
    for (name, valid), role, weight, centre in zip(
        file.masks.items(), ("frames", "text"), (1.0, 2.5), (0.0, 0.2), strict=True
    ):
        assert 0 < valid.sum() < len(valid)
        there = tuple(v for v, known in zip(file.video_ids, valid, strict=True) if known)
        cosines = queries @ _pooled(store, role, there).T
        np.testing.assert_allclose(file.scores[name][:, valid], cosines, atol=1e-6)
        total[:, valid] += weight * (cosines - centre)
    covered = file.covered_V
    np.testing.assert_allclose(file.scores[LATE_FUSION][:, covered], total[:, covered], atol=1e-5)


def test_a_score_does_not_depend_on_the_gallery(corpus: Any, scored: Path, tmp_path: Path) -> None:
    whole = SimilarityFile.read(scored)
    rows = corpus.manifest.split("test")
    few = Manifest(corpus.manifest.card, tuple(row for row in rows if row.id < "test010"))
    write_untrained(few, corpus.store, tmp_path, CONFIG)
    part = SimilarityFile.read(evaluate(few, corpus.store, tmp_path))
    q, v = len(part.query_ids), len(part.video_ids)
    assert (part.query_ids, part.video_ids) == (whole.query_ids[:q], whole.video_ids[:v])
    np.testing.assert_allclose(
        part.scores[LATE_FUSION], whole.scores[LATE_FUSION][:q, :v], rtol=0, atol=1e-6
    )


def test_the_table_says_that_nothing_was_trained(scored: Path) -> None:
    (part,) = SimilarityTable().build([scored]).parts
    assert any("nothing was trained" in note for note in part.notes)


def test_the_folder_can_be_searched(corpus: Any, scored: Path) -> None:
    index = SearchIndex.open(corpus.manifest, corpus.store, scored.parent, split="test")
    file = SimilarityFile.read(scored)
    query = index.store[CAPTIONS].features(file.query_ids[0])
    found = index.scores({CAPTIONS: query})
    np.testing.assert_allclose(found.levels_LV[0], file.scores["visual"][0], atol=1e-6)


@pytest.mark.parametrize("role", ["frames", "captions"])
def test_projected_frames_or_captions_need_training(role: str) -> None:
    config = FusionConfig.model_validate({"project": [role]})
    with pytest.raises(ConfigError, match=f"fuse.project has {role}"):
        without_training(config)


def test_a_projected_level_is_left_out() -> None:
    kept = without_training(FusionConfig.model_validate({"project": ["text"]}))
    assert list(kept.active_levels) == ["visual"]
    assert kept.project == ()
    with pytest.raises(ConfigError, match="no level of this recipe"):
        without_training(
            FusionConfig.model_validate(
                {"levels": {n: {"enabled": False} for n in ("visual", "text")}}
            )
        )


def test_a_trained_run_is_not_overwritten(corpus: Any, tmp_path: Path) -> None:
    train(
        corpus.manifest,
        corpus.store,
        tmp_path,
        CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"epochs": 0})}),
    )
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(UsageError, match="--out"):
        write_untrained(corpus.manifest, corpus.store, tmp_path, CONFIG)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_training_refuses_the_strategy(corpus: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="eval --zero-shot"):
        train(corpus.manifest, corpus.store, tmp_path, without_training(CONFIG))


def test_weights_from_tiny_to_large_are_kept() -> None:
    weights = torch.tensor([1e-4, 0.5, 1.0, 30.0, 1e5])
    late = AffineFusion(5)
    late.weigh(weights, torch.zeros(5))
    np.testing.assert_allclose(late.alpha_L.detach(), weights, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--zero-shot"],
        ["--run", "a", "--out", "b", "--zero-shot"],
        ["--zero-shot", "--run", "a"],
    ],
)
def test_one_of_run_and_zero_shot_is_given(
    m2hf: Callable[..., Any], tmp_path: Path, options: list[str]
) -> None:
    done = m2hf("eval", "--manifest", str(tmp_path), "--store", str(tmp_path), *options)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--zero-shot --out DIR" in done.stderr
