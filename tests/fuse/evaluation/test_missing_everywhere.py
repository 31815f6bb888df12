"""A set without any audio and without any text, as MSVD has none: what the fused score is then.

Text is a level of its own: where no video has it, the fused score is the late fusion of the
remaining levels, by every rule, and an ensemble is the ensemble without that level.

Audio is fused into frames: under `fallback` the level of a model trained end to end is the visual
one to the bit, so that the fused score is a function of the remaining levels. By the affine rule
the two speak as one whose slope and bias are the sums; `max` and `best_rank` don't hear the
second; the sums count visual twice. `token` and `predict` put something learned in its place,
and promise no such thing.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.completion import COMPLETIONS
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.late_rules import LATE_RULES, Calibration
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.training.run import train

NAMES = ("visual", "audio_visual", "motion_visual", "text")
TWICE = {"mention", "z_sum", "sum", "reciprocal_rank"}  # an equal level adds itself once more


class Finished:
    """A run on the silent set, scored: known videos alone, levels in the order of NAMES."""

    def __init__(self, silent: Any, folder: Path, config: FusionConfig) -> None:
        train(silent.manifest, silent.store, folder, config)
        self.file = SimilarityFile.read(evaluate(silent.manifest, silent.store, folder))
        known = self.file.masks["visual"]
        self.levels = np.stack([self.file.scores[name][:, known] for name in self.file.masks])
        self.valid = np.stack([mask[known] for mask in self.file.masks.values()])
        self.fused = self.file.scores["late_fusion"][:, known]
        store = FeatureStore.open(silent.store, "synthetic", config)
        model, _ = checkpoint.load(RunFolder(folder).checkpoint, store)
        self.by = model.late.calibration()

    def rule(self, name: str, *levels: str, by: Calibration | None = None) -> Any:
        """The late fusion of these levels alone."""
        at = [NAMES.index(level) for level in levels]
        by = by or self.by
        chosen = Calibration(*(getattr(by, field.name)[at] for field in fields(by)))
        return LATE_RULES[name](self.levels[at], self.valid[at], chosen)


def of(short: FusionConfig, **changes: Any) -> FusionConfig:
    return FusionConfig.model_validate(
        {**short.model_dump(), "late": {"rule": "affine"}, **changes}
    )


@pytest.mark.parametrize("mode", list(COMPLETIONS))
@pytest.mark.parametrize("scoring", ["mean", "wti"])
def test_the_fused_score_is_that_of_the_remaining_levels(
    silent: Any, short: FusionConfig, tmp_path: Path, mode: str, scoring: str
) -> None:
    config = of(short, completion={"mode": mode}, scoring=scoring)
    run = Finished(silent, tmp_path, config)
    assert all(np.isfinite(matrix).all() for matrix in run.file.scores.values())
    assert not run.file.masks["text"].any()
    np.testing.assert_allclose(run.fused, run.rule("affine", *NAMES[:3]), atol=1e-6)
    for rule in LATE_RULES:
        rest = run.rule(rule, *NAMES[:3])
        np.testing.assert_allclose(run.rule(rule, *NAMES), rest, atol=1e-6)
    same = np.array_equal(run.file.scores["audio_visual"], run.file.scores["visual"])
    assert same == (mode == "fallback")
    if same:
        _without_audio(run)


def _without_audio(run: Finished) -> None:
    by = Calibration(*(getattr(run.by, field.name).copy() for field in fields(run.by)))
    assert by.centre_L[0] == by.centre_L[1]
    by.alpha_L[0] += by.alpha_L[1]
    by.bias_L[0] += by.bias_L[1]
    remaining = ("visual", "motion_visual", "text")
    np.testing.assert_allclose(run.fused, run.rule("affine", *remaining, by=by), atol=1e-5)
    for rule in ("max", "best_rank"):
        assert np.array_equal(run.rule(rule, *NAMES), run.rule(rule, *remaining))
    for rule in TWICE:
        twice = run.rule(rule, *remaining) + run.rule(rule, "visual")
        np.testing.assert_allclose(run.rule(rule, *NAMES), twice, atol=1e-5)


def test_an_ensemble_is_the_ensemble_without_the_level(
    silent: Any, short: FusionConfig, tmp_path: Path
) -> None:
    """Trained, stopped and calibrated as if the level that nobody has had been disabled."""
    whole = Finished(silent, tmp_path / "whole", of(short, strategy="ensemble"))
    fewer = of(short, strategy="ensemble", levels={"text": {"enabled": False}})
    without = Finished(silent, tmp_path / "without", fewer)
    assert list(without.file.masks) == list(NAMES[:3])
    assert np.array_equal(whole.levels[:3], without.levels)
    np.testing.assert_allclose(whole.fused, without.fused, atol=1e-6)
    # Two models that had the same to learn from: without dropout the same but for rounding.
    np.testing.assert_allclose(whole.levels[1], whole.levels[0], atol=1e-4)
