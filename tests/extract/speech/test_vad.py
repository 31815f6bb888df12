"""Windows of speech are at most 30 s, and their times are mapped back to the clip's."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.extract.media.decode import decode
from m2hf.extract.media.sound import Sound
from m2hf.extract.speech import vad
from m2hf.extract.speech.vad import RATE, WINDOW_S, Detector, Span, Window, speech_share, windows

DETECTORS = st.builds(
    Detector,
    pause_s=st.floats(0.1, 10.0),
    pad_s=st.floats(0.0, 2.0),
)


@st.composite
def talks(draw: st.DrawFn) -> tuple[Detector, list[Span], int]:
    """A detector, utterances that it may find, and the length of the sound."""
    detector = draw(DETECTORS)
    most = round((WINDOW_S - max(detector.pause_s, 2 * detector.pad_s)) * RATE)
    parts = st.tuples(st.integers(0, 12 * RATE), st.integers(1, most))
    at, found = 0, []
    for pause, length in draw(st.lists(parts, max_size=7)):
        found.append(Span(at + pause, at + pause + length))
        at += pause + length
    return detector, found, at + draw(st.integers(0, 3 * RATE))


@given(talks())
@settings(deadline=None, max_examples=60)
def test_windows_hold_each_utterance_and_no_long_pause(
    talk: tuple[Detector, list[Span], int],
) -> None:
    detector, utterances, count = talk
    spans = detector.padded(utterances, count)
    assert len(spans) == len(utterances)
    for span, utterance in zip(spans, utterances, strict=True):
        assert 0 <= span.first <= utterance.first
        assert utterance.last <= span.last <= count
    longest = max(round(detector.pause_s * RATE), 2 * round(detector.pad_s * RATE))
    for (one, two), (speech, next_speech) in zip(
        pairwise(spans), pairwise(utterances), strict=True
    ):
        assert (one.last < two.first) == (next_speech.first - speech.last > longest)
        assert one.last <= two.first
    made = list(windows(spans))
    assert [s for window in made for s in window.spans] == spans
    assert all(len(window) <= WINDOW_S * RATE for window in made)
    for one, two in pairwise(made):
        assert len(one) + len(two.spans[0]) > WINDOW_S * RATE


@given(talks(), st.floats(0, 31), st.floats(0, 31), st.floats(0.0, 0.5))
@settings(deadline=None, max_examples=100)
def test_times_are_mapped_back_to_the_clip(
    talk: tuple[Detector, list[Span], int], a: float, b: float, slack_s: float
) -> None:
    detector, utterances, count = talk
    sound = np.arange(count, dtype=np.int32)  # a sample's value is its position
    for window in windows(detector.padded(utterances, count)):
        joined = window.joined(sound)  # type: ignore[arg-type]
        assert len(joined) == len(window)
        first, last = sorted(min(round(t * RATE), len(joined)) for t in (a, b))
        part = joined[first:last]
        runs = np.split(part, np.flatnonzero(np.diff(part) != 1) + 1)
        long = [run for run in runs if len(run) > round(slack_s * RATE)]
        placed = window.clip_times(*sorted((a, b)), slack_s)
        if len(long) > 1:
            assert placed is None
            sides = window.split(min(a, b))
            both = np.concatenate([side.joined(sound) for side in sides])  # type: ignore[arg-type]
            np.testing.assert_array_equal(both, joined)
            assert sum(len(side.runs) for side in sides) == len(window.runs)
            continue
        assert placed is not None
        start, end = (round(t * RATE) for t in placed)
        if len(part):
            longest = max(runs, key=len)
            assert end - start == len(longest)
            np.testing.assert_array_equal(np.arange(start, end), longest)
        else:
            assert start == end
            assert any(run.first <= start <= run.last for run in window.runs)


def test_a_span_longer_than_a_window_is_cut() -> None:
    made = list(windows([Span(5, 5 + 70 * RATE)]))
    assert [len(window) for window in made] == [30 * RATE, 30 * RATE, 10 * RATE]
    assert made[1].spans == (Span(5 + 30 * RATE, 5 + 60 * RATE),)


def test_the_share_is_that_of_the_time() -> None:
    utterances = [Span(0, RATE), Span(2 * RATE, 3 * RATE)]
    assert speech_share(utterances, 0.5, 2.5) == pytest.approx(0.5)
    assert speech_share(utterances, 1.0, 2.0) == 0.0
    assert speech_share(utterances, 0.5, 0.5) == 1.0


@pytest.mark.parametrize("seconds", [0.001, 0.3, 12.0])
def test_silence_noise_and_a_tone_are_no_speech(seconds: float) -> None:
    count = max(1, round(seconds * RATE))
    noise = np.random.default_rng(0).normal(0, 0.1, count).astype(np.float32)
    tone = 0.5 * np.sin(np.arange(count, dtype=np.float32) * (2 * np.pi * 440 / RATE))
    for sound in (np.zeros(count, np.float32), noise, tone):
        assert Detector().utterances(sound) == []
    assert Detector().padded([], count) == []


def test_a_long_sound_is_searched_in_pieces(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = decode(shared_data / "clips" / "video2392.mp4", (), (RATE,)).sound(RATE)
    assert isinstance(sound, Sound)
    whole = Detector().utterances(sound.samples)
    assert whole[0].first > 5 * RATE  # music comes first
    monkeypatch.setattr(vad, "_PIECE", 4 * RATE)
    pieces = Detector().utterances(sound.samples)
    assert pieces[-1].last <= len(sound.samples)
    marks = np.zeros((2, len(sound.samples)), bool)
    for row, spans in zip(marks, (whole, pieces), strict=True):
        for span in spans:
            row[span.first : span.last] = True
    assert (marks[0] != marks[1]).mean() < 0.05


def test_a_window_with_one_run_gives_the_same_sound_back() -> None:
    sound = np.arange(100, dtype=np.float32)
    window = Window((Span(10, 40), Span(40, 90)))
    np.testing.assert_array_equal(window.joined(sound), sound[10:90])
    assert window.clip_times(1.0, 2.0, 0.0) == (90 / RATE, 90 / RATE)
