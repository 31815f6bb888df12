"""Frames are chosen by time, whatever the file stores of a frame that stays on the screen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2hf.extract.media.frames import Frames


def shown(starts_s: list[float], end_s: float) -> Frames:
    """Frames whose two bytes are their number."""
    start_s = np.array(starts_s)
    pixels = np.arange(len(start_s), dtype="<u2").view(np.uint8).reshape(-1, 1, 2)
    return Frames(pixels, start_s, np.append(start_s[1:], end_s))


def levels(frames: Frames) -> list[int]:
    """The numbers of frames that `shown` made."""
    return [int(level) for level in frames.pixels.reshape(-1).view("<u2")]


def test_of_many_steps_the_middles_of_equal_parts_are_chosen() -> None:
    frames = shown(list(range(16)), 16.0)
    assert levels(frames.evenly(1.0, 4)) == [2, 6, 10, 14]
    assert frames.evenly(1.0, 4).start_s.tolist() == [2, 6, 10, 14]
    assert frames.evenly(1.0, 4).end_s.tolist() == [3, 7, 11, 15]
    assert levels(frames.evenly(1.0, 99)) == list(range(16))


def test_a_frame_that_stays_is_repeated_as_often_as_it_is_shown() -> None:
    slides = shown([0.0, 60.0, 64.0, 68.0], 72.0)
    chosen = slides.evenly(1.0, 12)
    assert levels(chosen) == [0] * 10 + [1, 3]
    assert chosen.start_s[:3].tolist() == [3, 9, 15]
    assert chosen.end_s[:3].tolist() == [4, 10, 16]
    assert levels(slides.at_most(1.0, 12)) == levels(chosen)
    assert slides.at_most(1.0, 72) is slides


def test_frames_of_29_97_per_second_are_each_their_own_step() -> None:
    frames = shown([np.ceil(n * 29.97) / 29.97 for n in range(30)], 30.0)
    assert levels(frames.evenly(1.0, 30)) == list(range(30))
    np.testing.assert_array_equal(frames.evenly(1.0, 30).start_s, frames.start_s)


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=20), st.integers(0, 12), st.integers(1, 20)
)
def test_a_file_without_repeated_frames_gives_the_frames_of_its_constant_rate_twin(
    seconds: list[int], late_s: int, most: int
) -> None:
    """seconds: for how many each frame is shown; the twin stores one a second."""
    starts = np.append(0, np.cumsum(seconds)) + late_s
    once = shown(starts[:-1].tolist(), float(starts[-1]))
    number = np.repeat(np.arange(len(seconds)), seconds)
    twin = shown((np.arange(len(number)) + late_s).tolist(), float(starts[-1]))
    chosen, repeated = once.evenly(1.0, most), twin.evenly(1.0, most)
    assert levels(chosen) == number[levels(repeated)].tolist()
    np.testing.assert_array_equal(chosen.start_s, repeated.start_s)
    np.testing.assert_array_equal(chosen.end_s, repeated.end_s)


@pytest.mark.parametrize("start_s", [0.0, 3.0, 3.7])
def test_a_single_frame(start_s: float) -> None:
    frames = shown([start_s], start_s + 0.04)
    assert levels(frames.evenly(1.0, 12)) == [0]
    assert frames.evenly(1.0, 12).start_s.tolist() == [start_s]


def test_times_of_chosen_frames_are_in_order_and_in_the_clip() -> None:
    frames = shown([0.02, 1.01, 7.5, 7.9], 9.3)
    for most in range(1, 12):
        chosen = frames.evenly(1.0, most)
        assert (chosen.end_s > chosen.start_s).all()
        assert (np.diff(chosen.start_s) > 0).all()
        assert chosen.end_s[-1] <= 9.3
