"""Timed scenes: nothing but figure and sound at their times tells the twins of a family apart."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from m2hf.data_manifests.toybox.captions import timed_sentence
from m2hf.data_manifests.toybox.corpus import ToyboxCorpus, write_clip
from m2hf.data_manifests.toybox.drawing import RGB
from m2hf.data_manifests.toybox.families import BLOCK, TWINS
from m2hf.data_manifests.toybox.scene import FRAMES, HEIGHT, WIDTH, FigureGroup
from m2hf.data_manifests.toybox.sound import LOUD, RATE
from m2hf.data_manifests.toybox.timing import (
    TimedScene,
    draw_timing,
    timed_frames,
    timed_soundtrack,
)
from m2hf.data_manifests.toybox.vocabulary import COLOURS, SHAPES, SIZES, SOUNDS
from m2hf.extract.logmel import LogMel
from m2hf.extract.media.decode import decode
from m2hf.extract.media.views import FrameView

RED = FigureGroup(1, "large", "red", "circle")
BLUE = FigureGroup(1, "large", "blue", "square")
SCENE = TimedScene((RED, BLUE), sounding=1, ground="plain", sound="low", seed=4)


def shows(frame: np.ndarray, colour: str) -> bool:
    return bool((np.abs(frame.astype(int) - RGB[colour]).sum(axis=2) < 60).sum() > 1000)


def half_levels(samples: np.ndarray) -> list[float]:
    """Largest level of each half but its ends, where an encoder may smear."""
    half, edge = len(samples) // 2, len(samples) // 20
    return [float(np.abs(part[edge:-edge]).max()) for part in (samples[:half], samples[half:])]


def test_a_family_has_each_sound_with_each_figure() -> None:
    scenes = draw_timing(400, seed=1)
    assert scenes == draw_timing(400, seed=1)
    assert scenes[:40] == draw_timing(40, seed=1)
    assert scenes != draw_timing(400, seed=2)
    families = [scenes[at : at + TWINS] for at in range(0, 400, TWINS)]
    looks = [{(frozenset(twin.figures), twin.ground) for twin in family} for family in families]
    assert all(len(look) == 1 for look in looks)
    assert len(set.union(*looks)) == len(families)
    for family in families:
        heard = {(twin.sound, twin.figures[twin.sounding]) for twin in family}
        assert len(heard) == TWINS
        assert len({sound for sound, _ in heard}) == len({figure for _, figure in heard}) == 2
        one, other = family[0].figures
        assert one.colour != other.colour
        assert one.shape != other.shape
        assert family[0].held_out


def test_the_order_says_nothing() -> None:
    """Neither does the half with the sound, nor both together, tell which figure sounds."""
    scenes = draw_timing(800, seed=0)
    first_sounds = sum(scene.sounding == 0 for scene in scenes)
    assert 340 < first_sounds < 460
    reference = [scenes[at - at % TWINS].figures[0] for at in range(800)]
    orders = Counter(
        (scene.figures[0] == first, scene.sounding)
        for scene, first in zip(scenes, reference, strict=True)
    )
    assert len(orders) == 4


def test_each_figure_is_there_for_half_of_the_clip() -> None:
    shown = list(timed_frames(SCENE))
    assert len(shown) == FRAMES
    assert {frame.shape for frame in shown} == {(HEIGHT, WIDTH, 3)}
    first_half = [at < FRAMES // 2 for at in range(FRAMES)]
    assert [shows(frame, "red") for frame in shown] == first_half
    assert [shows(frame, "blue") for frame in shown] == [not first for first in first_half]


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("sounding", [0, 1])
def test_the_sound_is_heard_in_its_half(sound: str, sounding: int) -> None:
    wave = timed_soundtrack(TimedScene((RED, BLUE), sounding, "plain", sound, seed=4))
    assert wave.dtype == np.float32
    assert len(wave) == 4 * RATE
    levels = half_levels(wave)
    assert levels[1 - sounding] == 0
    assert levels[sounding] > LOUD / 2


@pytest.mark.parametrize("sound", ["low", "noise", "drum"])
def test_the_windows_of_a_half_do_not_tell_which_half_it_is(sound: str, tmp_path: Path) -> None:
    """So that a fusion that ignores times can't learn the order from what a window holds."""
    session = LogMel(window_s=0.5).open("cpu")
    rows = []
    for sounding in (0, 1):
        path = tmp_path / f"{sounding}.mp4"
        write_clip(path, TimedScene((RED, BLUE), sounding, "plain", sound, seed=4))
        rows.append(session.extract(decode(path, rates=[16000])).values)
    assert rows[0].shape[0] == rows[1].shape[0] == 8
    heard, silent = rows[0][:4], rows[0][4:]
    assert np.ptp(silent, axis=0).max() < 0.02
    np.testing.assert_allclose(rows[1][:4], silent, atol=0.02)
    assert np.abs(heard - silent).max() > 0.5
    assert np.abs(rows[1][4:] - heard).mean() < 0.03


def test_a_caption_says_who_sounds_and_its_order_says_nothing() -> None:
    rng = np.random.default_rng(0)
    red_first = sounding_first = 0
    for _ in range(400):
        text = timed_sentence(RED, BLUE, "bark", rng)
        (sounding,) = (part for part in text.split(", ") if "there" in part)
        (quiet,) = (part for part in text.split(", ") if "quiet" in part or "silent" in part)
        assert set(COLOURS["red"]) & set(sounding.split())
        assert set(SHAPES["circle"]) & set(sounding.split())
        assert any(words in sounding for words in SOUNDS["bark"])
        assert not any(words in quiet for words in SOUNDS["bark"])
        assert "blue" in quiet
        assert all(set(SIZES["large"]) & set(part.split()) for part in (sounding, quiet))
        sounding_first += text.startswith(sounding)
        red_first += min(text.find("red") % 999, text.find("crimson") % 999) < text.find("blue")
    assert 150 < sounding_first < 250
    assert red_first == sounding_first
    two = FigureGroup(2, "small", "green", "star")
    assert "stars are " in timed_sentence(two, RED, "bell", rng)


def test_the_corpus_keeps_families_whole_and_names_its_kind() -> None:
    corpus = ToyboxCorpus.draw(3 * BLOCK, seed=5, kind="timing")
    assert corpus.clips != ToyboxCorpus.draw(3 * BLOCK, seed=6, kind="timing").clips
    manifest = corpus.manifest()
    assert manifest.check() == []
    assert manifest.card.name == "toybox-timing"
    assert manifest.card.source.endswith("m2hf manifest toybox --kind timing")
    assert set(corpus.kinds().values()) == {"timing"}
    assert corpus.availability() == {"sound": 3 * BLOCK, "a sign": 0, "speech": 0}
    clips = list(corpus.clips.values())
    for at in range(0, len(clips), TWINS):
        assert len({clip.split for clip in clips[at : at + TWINS]}) == 1
    for clip in clips:
        texts = {caption.text for caption in clip.captions}
        assert len(texts) == len(clip.captions) == (6 if clip.split == "train" else 1)


def test_the_file_has_both_at_their_times(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", SCENE)
    view = FrameView(fps=1.0, max_side=320)
    clip = decode(tmp_path / "clip.mp4", [view], [16000])
    frames, sound = clip.frames(view), clip.sound(16000)
    assert [shows(frame, "red") for frame in frames.pixels] == list(frames.end_s <= 2)
    assert [shows(frame, "blue") for frame in frames.pixels] == list(frames.start_s >= 2)
    silent, heard = half_levels(sound.samples)
    assert silent < 0.001
    assert heard > LOUD / 2
