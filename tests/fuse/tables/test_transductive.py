"""Dual softmax, querybank normalisation and bootstrap intervals against naive versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.fuse.scores.metrics import t2v_ranks, text_to_video, v2t_ranks
from m2hf.fuse.tables.bootstrap import interval
from m2hf.fuse.tables.transductive import DualSoftmax, Querybank


def softmax(values: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 600), st.integers(1, 9)),
    scale=st.sampled_from([0.5, 20.0, 300.0]),
    seed=st.integers(0, 99),
)
def test_dual_softmax_is_scores_times_softmax(
    shape: tuple[int, int], scale: float, seed: int
) -> None:
    scores = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    wide = scores.astype(np.float64)
    t2v = DualSoftmax.text_to_video(scores, scale)[0 : len(scores)]
    np.testing.assert_allclose(t2v, wide * softmax(scale * wide, 0), rtol=1e-9, atol=1e-300)
    v2t = DualSoftmax.video_to_text(scores, scale)[0 : len(scores)]
    np.testing.assert_allclose(v2t, wide * softmax(scale * wide, 1), rtol=1e-9, atol=1e-300)


def test_duplicate_sentences_stay_tied_after_dual_softmax() -> None:
    scores = np.random.default_rng(0).random((6, 6))
    scores[4] = scores[1]
    for rule in (DualSoftmax.text_to_video, DualSoftmax.video_to_text):
        assert v2t_ranks(rule(scores, 50.0), np.arange(6)).ties[[1, 4]].tolist() == [1, 1]


def naive_querybank(scores: np.ndarray, bank: np.ndarray, scale: float) -> np.ndarray:
    """Dynamic inverted softmax, written out."""
    active = set(bank.argmax(axis=1).tolist())
    inverted = np.exp(scale * scores) / np.exp(scale * bank).sum(axis=0)
    rows = [i if s.argmax() in active else s for s, i in zip(scores, inverted, strict=True)]
    return np.array(rows)


@pytest.mark.parametrize("seed", range(5))
def test_querybank_has_the_order_of_the_inverted_softmax(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, bank, answers = rng.random((400, 12)), rng.random((9, 12)), rng.integers(0, 12, 400)
    found = t2v_ranks(Querybank.of(scores, bank, 20.0), answers)
    expected = t2v_ranks(naive_querybank(scores, bank, 20.0), answers)
    assert np.array_equal(found.expected, expected.expected)
    assert not np.array_equal(found.expected, t2v_ranks(scores, answers).expected)


def test_a_querybank_lifts_what_a_hub_holds_down() -> None:
    """A video that is close to every query wins all of them, until the bank says so."""
    rng = np.random.default_rng(1)
    scores = 0.5 * np.eye(50) + 0.1 * rng.random((50, 50))
    bank = 0.1 * rng.random((30, 50))
    scores[:, 0] += 0.6
    bank[:, 0] += 0.6
    assert text_to_video(scores, np.arange(50)).recall[1].expected < 10
    banked = Querybank.of(scores, bank, 20.0)
    assert text_to_video(banked, np.arange(50)).recall[1].expected == 100


def test_a_bank_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"a bank of shape \(2, 3\) for scores of shape \(5, 4\)"):
        Querybank.of(np.zeros((5, 4)), np.zeros((2, 3)), 20.0)


def test_the_interval_is_that_of_a_naive_bootstrap_over_videos() -> None:
    rng = np.random.default_rng(3)
    video = np.sort(rng.integers(0, 80, 400))
    hits = (rng.random(80) < 0.4)[video] * 0.9 + 0.05 * rng.random(400)
    groups = [hits[video == v] for v in np.unique(video)]
    means = [
        100 * np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))]).mean()
        for _ in range(3000)
    ]
    assert interval([hits], video) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=1.5)
    low, high = interval([hits], np.arange(400))  # as if captions of a video were independent
    assert high - low < 0.7 * np.subtract(*interval([hits], video)[::-1])


def test_intervals_are_repeatable_and_of_nothing_random_where_all_hit() -> None:
    video = np.arange(30)
    hits = np.random.default_rng(0).random(30)
    assert interval([hits], video) == interval([hits], video)
    assert interval([np.ones(30)], video) == (100.0, 100.0)


@pytest.mark.slow
def test_most_intervals_hold_the_truth() -> None:
    """95 % of them, within what 200 draws can tell."""
    rng = np.random.default_rng(9)
    ends = [interval([(rng.random(300) < 0.4) * 1.0], np.arange(300)) for _ in range(200)]
    assert 0.90 <= np.mean([low <= 40 <= high for low, high in ends]) <= 0.99
