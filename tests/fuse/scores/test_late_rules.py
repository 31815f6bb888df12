"""Late-fusion rules on plain matrices: definitions, masks, order, and the model's own."""

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.fuse.config import FusionConfig, LateConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.model.calibration import fit_calibration
from m2hf.fuse.model.late_fusion import LATE_FUSIONS
from m2hf.fuse.scores.late_rules import LATE_RULES, TRAINED, Calibration
from m2hf.fuse.scores.metrics import text_to_video
from m2hf.fuse.scores.similarity_file import SimilarityFile


def made(seed: int, missing: float = 0.3) -> tuple[Any, Any, Calibration]:
    rng = np.random.default_rng(seed)
    scores, valid = rng.normal(size=(3, 4, 6)), rng.random((3, 6)) >= missing
    centre, bias, offset, mixture_offset = rng.normal(size=(4, 3))
    deviation, alpha, mixture_alpha = rng.uniform(0.5, 2, (3, 3))
    by = Calibration(centre, deviation, alpha, bias, offset, mixture_alpha, mixture_offset)
    return scores, valid, by


def by_definition(rule: str, scores: Any, valid: Any, by: Calibration, q: int, v: int) -> float:
    known = [level for level in range(len(scores)) if valid[level, v]]
    z = {n: (scores[n, q, v] - by.centre_L[n]) / by.deviation_L[n] for n in known}
    rank = {
        n: 1
        + sum(scores[n, q, valid[n]] > scores[n, q, v])
        + (sum(scores[n, q, valid[n]] == scores[n, q, v]) - 1) / 2
        for n in known
    }
    mention = sum(
        math.log(1 + math.exp(by.alpha_L[n] * z[n] + by.offset_L[n])) + by.bias_L[n] for n in known
    )
    odds = sum(math.exp(by.mixture_alpha_L[n] * z[n] + by.mixture_offset_L[n]) for n in known)
    values = {
        "affine": sum(by.alpha_L[n] * z[n] + by.bias_L[n] for n in known),
        "mention": mention,
        "mention_mixture": mention + math.log(odds),
        "z_sum": sum(z.values()),
        "z_mean": sum(z.values()) / len(known),
        "sum": sum(scores[n, q, v] for n in known),
        "reciprocal_rank": sum(1 / (60 + r) for r in rank.values()),
        "best_rank": -min(rank.values()),
        "max": max(z.values()),
    }
    return float(values[rule])


@pytest.mark.parametrize("rule", list(LATE_RULES))
@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_definitions_masks_and_order(rule: str, seed: int) -> None:
    scores, valid, by = made(seed)
    scores = scores.round(1)  # so that there are ties
    fused = LATE_RULES[rule](scores, valid, by)
    for q in range(4):
        for v in np.flatnonzero(valid.any(axis=0)):
            expected = by_definition(rule, scores, valid, by, q, int(v))
            assert fused[q, v] == pytest.approx(expected)
    noisy = np.where(valid[:, None], scores, 1e3)
    assert np.array_equal(LATE_RULES[rule](noisy, valid, by), fused)
    order = np.random.default_rng(seed).permutation(6)
    moved = LATE_RULES[rule](scores[:, :, order], valid[:, order], by)
    np.testing.assert_allclose(moved, fused[:, order])


@pytest.mark.parametrize("rule", list(LATE_RULES))
def test_a_level_that_is_missing_everywhere_changes_nothing(rule: str) -> None:
    scores, valid, by = made(0, missing=0.0)
    valid[2] = False
    two = Calibration(*(getattr(by, field.name)[:2] for field in fields(by)))
    fused = LATE_RULES[rule](scores, valid, by)
    np.testing.assert_allclose(fused, LATE_RULES[rule](scores[:2], valid[:2], two))
    assert np.isfinite(LATE_RULES[rule](scores, np.zeros_like(valid), by)).all()


def test_statistics_are_of_available_videos_and_a_flat_level_is_harmless() -> None:
    scores, valid, _ = made(1)
    scores[2] = 0.5
    by = Calibration.of(scores, valid)
    assert by.centre_L[0] == pytest.approx(scores[0][:, valid[0]].mean())
    assert by.deviation_L[1] == pytest.approx(scores[1][:, valid[1]].std())
    assert by.deviation_L[2] == 1.0


def test_the_trained_rules_are_the_models() -> None:
    assert tuple(LATE_FUSIONS) == TRAINED


@pytest.mark.parametrize("rule", TRAINED)
def test_a_trained_rule_is_what_the_model_computes(rule: str) -> None:
    scores, valid, _ = made(2)
    late = LATE_FUSIONS[rule](3)
    levels, known = torch.from_numpy(scores).float(), torch.from_numpy(valid)
    late.standardise(levels, known)
    with torch.no_grad():
        for parameter in late.parameters():
            parameter.copy_(torch.randn(3))
        expected = late(levels, known)
    fused = LATE_RULES[rule](scores, valid, late.calibration())
    np.testing.assert_allclose(fused, expected, atol=1e-5)


def test_unfitted_affine_is_the_sum_of_standard_scores() -> None:
    scores, valid, _ = made(3)
    by = Calibration.of(scores, valid)
    affine, z_sum = (LATE_RULES[name](scores, valid, by) for name in ("affine", "z_sum"))
    np.testing.assert_allclose(affine, z_sum)


@pytest.mark.parametrize("rule", TRAINED)
def test_a_level_that_calibration_never_saw_says_nothing(rule: str) -> None:
    rng = np.random.default_rng(0)
    scores = np.stack([np.eye(40) + 0.3 * rng.normal(size=(40, 40)), rng.normal(size=(40, 40))])
    valid = np.array([[True] * 40, [False] * 40])
    by = fit_calibration(rule, scores, valid, np.arange(40))
    fused = LATE_RULES[rule](scores, np.ones_like(valid), by)
    recall = [text_to_video(m, np.arange(40)).recall[1].expected for m in (fused, scores[0])]
    assert recall[0] == recall[1]


@pytest.mark.parametrize("rule", ["affine", "z_mean", "best_rank"])
def test_the_rule_may_be_chosen_after_training(corpus: Any, run: Any, rule: str) -> None:
    given = FusionConfig(late=LateConfig.model_validate({"rule": rule}))
    file = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, run.folder, given))
    assert file.config["late"]["rule"] == rule
    assert np.isfinite(file.scores["late_fusion"]).all()
    again = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, run.folder))
    assert again.config["late"]["rule"] == "mention"
    assert not np.array_equal(again.scores["late_fusion"], file.scores["late_fusion"])


@pytest.mark.parametrize("rule", list(LATE_RULES))
def test_every_rule_trains(corpus: Any, short: FusionConfig, tmp_path: Any, rule: str) -> None:
    from m2hf.fuse.training.run import train

    config = short.model_copy(update={"late": LateConfig.model_validate({"rule": rule})})
    assert train(corpus.manifest, corpus.store, tmp_path, config).val_recall["late_fusion"] > 0


@pytest.mark.parametrize("rule", TRAINED)
@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(seed=st.integers(0, 10_000), level=st.integers(0, 2), more=st.floats(0.0, 100.0))
def test_a_fused_score_rises_with_every_level(
    rule: str, seed: int, level: int, more: float
) -> None:
    scores, valid, by = made(seed)
    before = LATE_RULES[rule](scores, valid, by)
    scores[level] += more
    after = LATE_RULES[rule](scores, valid, by)
    assert (after >= before).all()
    if more > 1e-3:
        assert (after > before)[:, valid[level]].all()


@pytest.mark.parametrize("rule", ["mention", "mention_mixture"])
def test_a_score_of_minus_infinity_is_the_floor(rule: str) -> None:
    scores, valid, by = made(4, missing=0.0)
    scores[0, :, 2] = -np.inf
    fused, low = LATE_RULES[rule](scores, valid, by), LATE_RULES[rule]
    assert np.isfinite(fused).all()
    scores[0, :, 2] = -1e4
    np.testing.assert_allclose(low(scores, valid, by), fused)


def test_the_mixture_of_one_level_is_its_line() -> None:
    scores, valid, by = made(5, missing=0.0)
    one = Calibration(*(getattr(by, field.name)[:1] for field in fields(by)))
    mention, both = (
        LATE_RULES[name](scores[:1], valid[:1], one) for name in ("mention", "mention_mixture")
    )
    line = one.mixture_alpha_L * one.standard(scores[:1])[0] + one.mixture_offset_L
    np.testing.assert_allclose(both - mention, line)
