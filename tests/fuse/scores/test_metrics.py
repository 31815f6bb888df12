"""Metrics against a naive oracle that enumerates every order of ties, and known cases."""

import itertools
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.fuse.scores.metrics import (
    Ranks,
    t2v_ranks,
    text_to_video,
    v2t_group_ranks,
    v2t_ranks,
    video_to_text,
)

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
    if draw(st.booleans()):
        scores[0] = [0.5] * videos  # what a missing modality gives
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


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(cases(), st.data())
def test_one_nan_anywhere_is_an_error_that_says_where(case: Case, data: st.DataObject) -> None:
    scores, answers = case
    row, column = (data.draw(st.integers(0, n - 1)) for n in scores.shape)
    scores[row, column] = np.nan
    for metric in (text_to_video, video_to_text):
        with pytest.raises(ValueError, match=f"row {row}, column {column} is NaN"):
            metric(scores, answers)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(cases())
def test_the_group_rule_ranks_the_best_caption_of_each_video(case: Case) -> None:
    scores, answers = case
    videos = np.unique(answers).tolist()
    best = np.array([scores[answers == v].max(axis=0) for v in videos])
    expected = [oracle(best[:, v], {place}) for place, v in enumerate(videos)]
    check(v2t_group_ranks(scores, answers), expected)


def straightforward(scores: np.ndarray, own: np.ndarray) -> tuple[int, int, int]:
    best = scores[own].max()
    level = int((scores == best).sum())
    tied_own = int((scores[own] == best).sum())
    return int((scores > best).sum()), level - tied_own, tied_own


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_many_rows_are_as_few(dtype: type, order: Literal["C", "F"]) -> None:
    """More rows than are read at a time, and more videos than a byte counts, with many ties."""
    rng = np.random.default_rng(5)
    scores = np.asarray(rng.integers(0, 60, (700, 300)), dtype=dtype, order=order)
    answers = rng.integers(0, 280, 700)  # some videos have no caption
    scores[3] = scores[600] = 7  # constant rows
    scores[:, 11] = 7
    t2v, v2t = t2v_ranks(scores, answers), v2t_ranks(scores, answers)
    for query, answer in enumerate(answers):
        found = (t2v.better[query], t2v.ties[query], t2v.own[query])
        assert found == straightforward(scores[query], np.array([answer]))
    assert v2t.video.tolist() == np.unique(answers).tolist()
    for place, video in enumerate(v2t.video):
        found = (v2t.better[place], v2t.ties[place], v2t.own[place])
        assert found == straightforward(scores[:, video], np.flatnonzero(answers == video))
    one = np.arange(300)
    assert np.array_equal(
        v2t_group_ranks(scores[:300], one).expected, v2t_ranks(scores[:300], one).expected
    )


def test_a_subset_asks_less_and_ranks_the_same() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.1, 0.3], [0.0, 0.1, 0.2]])
    chosen = np.array([True, True, False])
    ranks = t2v_ranks(scores, np.arange(3)).of_videos(chosen)
    assert ranks.expected.tolist() == [1.0, 3.0]
    assert v2t_ranks(scores, np.array([2, 0, 0])).of_videos(chosen).expected.tolist() == [2.0]


def test_bad_indices_and_nothing_are_errors() -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.2"):
        text_to_video(np.eye(3), np.array([0, 1, 3]))
    with pytest.raises(ValueError, match="expected scores"):
        text_to_video(np.eye(3), np.array([0, 1]))
    for metric in (text_to_video, video_to_text):
        with pytest.raises(ValueError, match="no queries"):
            metric(np.zeros((0, 3)), np.zeros(0, dtype=np.int64))
