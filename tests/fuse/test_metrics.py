"""Metrics against a naive oracle that enumerates every order of ties, and known answers."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.fuse.metrics import KS, Ranks, t2v_ranks, text_to_video, v2t_ranks, video_to_text

Case = tuple[np.ndarray, np.ndarray]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few distinct scores, so that ties, constant rows and duplicate captions are common."""
    queries, videos = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    score = st.sampled_from([-np.inf, -1.0, 0.0, 0.5])
    rows = st.lists(score, min_size=videos, max_size=videos)
    scores = draw(st.lists(rows, min_size=queries, max_size=queries))
    if draw(st.booleans()):
        scores[-1] = scores[0]  # a sentence that occurs twice
    answers = st.lists(st.integers(0, videos - 1), min_size=queries, max_size=queries)
    return np.array(scores), np.array(draw(answers))


def oracle(scores: np.ndarray, own: set[int]) -> list[int]:
    """Rank of the first of `own` among what is not own, in every order of ties."""
    ranks = []
    for order in itertools.permutations(range(len(scores))):
        ranked = sorted(order, key=lambda c: -scores[c])
        first = next(i for i, c in enumerate(ranked) if c in own)
        ranks.append(1 + sum(c not in own for c in ranked[:first]))
    return ranks


def check(ranks: Ranks, expected: list[list[int]]) -> None:
    np.testing.assert_allclose(ranks.expected, [np.mean(r) for r in expected])
    for k in (1, 2, 3, 5):
        recall = ranks.recall(k)
        shares = [np.mean(np.array(r) <= k) for r in expected]
        assert recall.expected == pytest.approx(100 * np.mean(shares))
        assert recall.worst == pytest.approx(100 * np.mean([max(r) <= k for r in expected]))
        assert recall.best == pytest.approx(100 * np.mean([min(r) <= k for r in expected]))
        assert recall.worst <= recall.expected + 1e-9
        assert recall.expected <= recall.best + 1e-9


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(cases())
def test_t2v_is_the_average_over_all_orders_of_ties(case: Case) -> None:
    scores, answers = case
    check(
        t2v_ranks(scores, answers), [oracle(s, {a}) for s, a in zip(scores, answers, strict=True)]
    )


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(cases())
def test_v2t_is_the_average_over_all_orders_of_ties(case: Case) -> None:
    scores, answers = case
    captions = {int(v): set(np.flatnonzero(answers == v).tolist()) for v in np.unique(answers)}
    expected = [oracle(scores[:, v], own) for v, own in captions.items()]
    check(v2t_ranks(scores, answers), expected)


def test_a_constant_row_is_worth_a_guess() -> None:
    scores = np.eye(8)
    scores[0] = 0.0
    metrics = text_to_video(scores, np.arange(8))
    assert metrics.recall[1].expected == pytest.approx(100 * (7 + 1 / 8) / 8)
    assert (metrics.recall[1].worst, metrics.recall[1].best) == (87.5, 100.0)
    assert metrics.mean_rank == pytest.approx((7 + 4.5) / 8)
    assert (metrics.queries, metrics.candidates) == (8, 8)


def test_own_captions_take_no_place_from_each_other() -> None:
    scores = np.array([[0.9, 0.0], [0.8, 0.0], [0.7, 1.0]])
    assert v2t_ranks(scores, np.array([0, 0, 1])).expected.tolist() == [1.0, 1.0]
    assert v2t_ranks(scores, np.array([1, 0, 0])).expected.tolist() == [2.0, 2.5]


def test_videos_without_captions_are_candidates_and_not_queries() -> None:
    metrics = video_to_text(np.array([[0.5, 0.9, 0.1]]), np.array([0]))
    assert (metrics.queries, metrics.candidates) == (1, 1)
    assert text_to_video(np.array([[0.5, 0.9, 0.1]]), np.array([0])).mean_rank == 2.0


def test_recall_sum_has_three_terms() -> None:
    assert text_to_video(np.eye(3), np.arange(3)).recall_sum == 300.0


@pytest.mark.parametrize("bad", [np.nan, -np.nan])
def test_nan_is_an_error(bad: float) -> None:
    scores = np.eye(3)
    scores[2, 0] = bad
    for metric in (text_to_video, video_to_text):
        with pytest.raises(ValueError, match="1 scores are NaN"):
            metric(scores, np.arange(3))


def test_bad_indices_and_nothing_are_errors() -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.2"):
        text_to_video(np.eye(3), np.array([0, 1, 3]))
    with pytest.raises(ValueError, match="expected scores"):
        text_to_video(np.eye(3), np.array([0, 1]))
    for metric in (text_to_video, video_to_text):
        with pytest.raises(ValueError, match="no queries"):
            metric(np.zeros((0, 3)), np.zeros(0, dtype=np.int64))


def _known(name: str) -> np.ndarray:
    checkout = Path(__file__).parents[2]
    data = Path(os.environ.get("M2HF_SHARED_DATA", checkout / ".." / "shared" / "data"))
    path = data / "similarity" / "cap4video" / f"msrvtt_{name}_matrix.npy"
    if not path.exists():
        pytest.skip(f"no {path}: set M2HF_SHARED_DATA to the folder of real data")
    return np.asarray(np.load(path))


@pytest.mark.parametrize(
    ("weights", "t2v", "v2t"),
    [
        ((1.0, 0.0), (48.0, 73.0, 82.9, 2, 13.13), (46.0, 74.1, 82.8, 2, 8.67)),
        ((0.0, 1.0), (29.7, 55.8, 66.6, 4, 26.74), (28.4, 54.9, 66.8, 4, 27.09)),
        ((0.73, 0.27), (49.1, 74.8, 83.0, 2, 12.55), (47.0, 74.6, 83.4, 2, 8.84)),
    ],
)
def test_published_matrices(
    weights: tuple[float, float], t2v: tuple[float, ...], v2t: tuple[float, ...]
) -> None:
    scores = weights[0] * _known("video") + weights[1] * _known("titles")
    for metric, expected in ((text_to_video, t2v), (video_to_text, v2t)):
        metrics = metric(scores, np.arange(1000))
        best = [metrics.recall[k].best for k in KS[:3]]
        assert best == pytest.approx(expected[:3], abs=1e-9)
        assert metrics.median_rank == pytest.approx(expected[3], abs=0.5)
        assert metrics.mean_rank == pytest.approx(expected[4], abs=0.02)


def test_duplicate_sentences_of_1ka_are_ties() -> None:
    recall = video_to_text(_known("video"), np.arange(1000)).recall
    assert recall[1].best == pytest.approx(46.0)
    assert recall[1].worst == pytest.approx(45.6)
    assert recall[1].expected == pytest.approx(45.8)
    assert recall[10].expected == pytest.approx(82.75)
