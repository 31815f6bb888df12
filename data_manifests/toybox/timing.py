"""Timed scenes: one figure after the other, and a sound that is heard with one of them only.

Of each family of TWINS clips, which have the same two figures on the same ground, two have one
sound and two another, and each sound is heard once with each figure. Which figure comes first is
random for each clip. So neither the frames nor the sound tell who is heard: only both at their
times do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from m2hf.data_manifests.toybox.drawing import RgbArray, SceneRenderer
from m2hf.data_manifests.toybox.families import TWINS
from m2hf.data_manifests.toybox.scene import FPS, FRAMES, SECONDS, FigureGroup, Scene
from m2hf.data_manifests.toybox.sound import LOUD, RATE, Wave, fade, make_sound
from m2hf.data_manifests.toybox.vocabulary import (
    SIZES,
    SOUNDS,
    TOYBOX_COLOURS,
    TOYBOX_GROUNDS,
    TOYBOX_SHAPES,
)

# Silence around the sound: a window that ends with a half has nothing of the other half, which
# would tell in which half the sound is, even where the times of the windows are unknown.
MARGIN_S = 0.15


@dataclass(frozen=True)
class TimedScene:
    """Two figures on one ground, each for half of the clip, in their order of appearance.

    `sounding` is the place, 0 or 1, of the one that is there while `sound` is heard; the other
    half is silent. `seed` determines what no caption mentions.
    """

    figures: tuple[FigureGroup, FigureGroup]
    sounding: int
    ground: str
    sound: str
    seed: int

    has_audio: ClassVar[bool] = True
    sign: ClassVar[None] = None
    spoken: ClassVar[None] = None

    @property
    def halves(self) -> tuple[Scene, Scene]:
        """What the first and the second half of the clip show."""
        first, second = (
            Scene((figure,), self.ground, "still", seed=self.seed) for figure in self.figures
        )
        return first, second

    @property
    def held_out(self) -> bool:
        """Whether a figure on this ground is a combination that no training scene has."""
        return any(half.held_out for half in self.halves)


def draw_timing(count: int, seed: int) -> list[TimedScene]:
    """`count` scenes (at least 0), family by family.

    The same count and seed (at least 0) give the same scenes.
    """
    rng = np.random.default_rng((seed, 3))
    looks = _looks(rng)
    scenes: list[TimedScene] = []
    while len(scenes) < count:
        figures, ground = next(looks)
        sounds = rng.permutation(list(SOUNDS))[:2]
        for twin in range(TWINS):
            first = int(rng.integers(2))
            scenes.append(
                TimedScene(
                    (figures[first], figures[1 - first]),
                    sounding=abs(twin % 2 - first),
                    ground=ground,
                    sound=str(sounds[twin // 2]),
                    seed=int(rng.integers(2**31)),
                )
            )
    return scenes[:count]


def timed_frames(scene: TimedScene) -> Iterator[RgbArray]:
    """The scene's frames in order: FRAMES arrays of (HEIGHT, WIDTH, 3) uint8 RGB."""
    renderers = [SceneRenderer(half) for half in scene.halves]
    for number in range(FRAMES):
        yield renderers[2 * number // FRAMES].frame(number / FPS)


def timed_soundtrack(scene: TimedScene) -> Wave:
    """The scene's waveform: (SECONDS * RATE,) float32 mono within -1..1, one half silent."""
    wave = np.zeros(round(SECONDS * RATE), dtype=np.float32)
    samples = round((SECONDS / 2 - 2 * MARGIN_S) * RATE)
    start = round((SECONDS / 2 * scene.sounding + MARGIN_S) * RATE)
    sound = make_sound(scene.sound, scene.seed)[:samples]
    wave[start : start + samples] = LOUD * sound * fade(samples)
    return wave


def _looks(rng: np.random.Generator) -> Iterator[tuple[list[FigureGroup], str]]:
    """Two figures and their ground, no two equal; one is a held-out combination."""
    seen = set()
    while True:
        ground = str(rng.choice(TOYBOX_GROUNDS))
        colours, shapes = rng.permutation(TOYBOX_COLOURS)[:2], rng.permutation(TOYBOX_SHAPES)[:2]
        figures = [
            FigureGroup(1, str(rng.choice(list(SIZES))), str(colour), str(shape))
            for colour, shape in zip(colours, shapes, strict=True)
        ]
        look = (frozenset(figures), ground)
        held_out = any(Scene((figure,), ground, "still").held_out for figure in figures)
        if held_out and look not in seen:
            seen.add(look)
            yield figures, ground
