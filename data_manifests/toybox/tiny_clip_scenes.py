"""Scenes drawn from the whole vocabulary, for training and testing the tiny CLIP."""

from collections.abc import Callable, Iterator

import numpy as np

from m2hf.data_manifests.toybox.scene import FigureGroup, Scene
from m2hf.data_manifests.toybox.vocabulary import (
    COLOURS,
    COUNTS,
    GROUNDS,
    MOTIONS,
    OTHER_WORDS,
    PLACES,
    SHAPES,
    SIGNS,
    SIZES,
    SOUNDS,
    SPOKEN,
)

PAIR_SHARE, STILL_SHARE, SIGN_SHARE, SPOKEN_SHARE = 0.3, 0.3, 0.35, 0.5
WORDS = tuple(sorted({word.lower() for word in (*SIGNS, *SPOKEN, *OTHER_WORDS)}))


def draw_tiny_clip_scenes(seed: int, held_out: bool) -> Iterator[Scene]:
    """An endless stream of scenes: held out from training, or all others."""
    rng = np.random.default_rng((seed, int(held_out)))
    while True:
        scene = _scene(rng)
        if scene.held_out == held_out:
            yield scene


def _scene(rng: np.random.Generator) -> Scene:
    one: Callable[..., str] = lambda names: str(rng.choice(list(names)))  # noqa: E731
    pair = rng.random() < PAIR_SHARE
    colours = rng.permutation(list(COLOURS))[:2]
    shapes = rng.permutation(list(SHAPES))[:2]
    most = 2 if pair else max(COUNTS)
    groups = tuple(
        FigureGroup(int(rng.integers(1, most + 1)), one(SIZES), str(colours[at]), str(shapes[at]))
        for at in range(1 + pair)
    )
    still = rng.random() < STILL_SHARE
    motion = "still" if still else one([name for name in MOTIONS if name != "still"])
    return Scene(
        groups,
        one(GROUNDS),
        motion,
        place=one(PLACES) if still and not pair else None,
        sound=one(SOUNDS),
        sign=one(WORDS).upper() if rng.random() < SIGN_SHARE else None,
        spoken=one(WORDS) if rng.random() < SPOKEN_SHARE else None,
        seed=int(rng.integers(2**31)),
    )
