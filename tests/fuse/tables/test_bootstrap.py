"""Intervals: those of one run to the bit, and those of several, which include their seeds."""

import numpy as np
import pytest
from benchmarks.intervals.__main__ import METHODS, main

from m2hf.fuse.tables import bootstrap


def shares(seed: int, queries: int = 60, hits: float = 0.5) -> np.ndarray:
    return (np.random.default_rng(seed).random(queries) < hits).astype(np.float64)


def test_the_interval_of_one_run_stays_to_the_bit() -> None:
    videos = np.arange(60) // 2
    assert bootstrap.interval([shares(1)], videos) == (30.0, 56.666666666666664)


def test_equal_runs_have_the_interval_of_one() -> None:
    videos = np.arange(60)
    assert bootstrap.interval([shares(1)] * 3, videos) == bootstrap.interval([shares(1)], videos)


def test_runs_that_differ_widen_the_interval_of_their_mean() -> None:
    videos = np.arange(60)
    runs = [shares(1, hits=0.4), shares(1, hits=0.6)]
    low, high = bootstrap.interval(runs, videos)
    narrow = bootstrap.interval([np.mean(runs, axis=0)], videos)
    assert low < narrow[0] < narrow[1] < high
    assert bootstrap.interval(runs[::-1], videos) == pytest.approx((low, high), abs=1e-9)


def test_the_ends_are_those_of_the_formula() -> None:
    low, high = bootstrap.widened((48.0, 54.0), 2.0, [49.0, 51.0, 53.0])
    both = 2 + 4 / 3
    half = bootstrap.student_quantile(both**2 / ((4 / 3) ** 2 / 2)) * both**0.5
    factor = half / (bootstrap.student_quantile(np.inf) * 2**0.5)
    assert (low, high) == pytest.approx((51 - 3 * factor, 51 + 3 * factor))
    assert bootstrap.widened((100.0, 100.0), 0.0, [99.0, 100.0])[1] == 100.0  # not above
    assert bootstrap.widened((0.0, 0.0), 0.0, [0.0, 1.0])[0] == 0.0


@pytest.mark.parametrize(
    ("freedom", "published"),
    [(1, 12.706), (2, 4.303), (5, 2.571), (30, 2.042), (np.inf, 1.960)],
)
def test_quantiles_are_those_of_printed_tables(freedom: float, published: float) -> None:
    assert bootstrap.student_quantile(freedom) == pytest.approx(published, abs=6e-4)


def test_the_simulation_prints_a_line_for_each_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--trials", "2", "--videos", "20"]) == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head.split(" | ")[2:] == [*METHODS[:-1], f"{METHODS[-1]} |"]
    assert len(lines) == 20


def test_a_paired_difference_has_no_noise_that_both_share() -> None:
    rng = np.random.default_rng(0)
    videos, ours = np.arange(200), (rng.random(200) < 0.5) * 1.0
    worse = ours.copy()
    worse[np.flatnonzero(ours)[:10]] = 0.0
    low, high = bootstrap.paired_interval([worse], [ours], videos)
    assert -9.0 < low < -5.0 < high < -1.5
    assert bootstrap.paired_interval([ours], [ours], videos) == (0.0, 0.0)
    assert bootstrap.paired_interval([ours], [worse], videos) == pytest.approx((-high, -low))
    wide = np.subtract(*bootstrap.interval([ours], videos)[::-1])
    assert high - low < 0.6 * wide
