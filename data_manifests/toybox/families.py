"""Draw the scenes of the benchmark: half look unique, half have twins that look the same.

Of each eight clips, four look unique and four are a family of twins: the same figures on the same
ground, which differ in motion, sound, sign and speech. All figures are combinations that the tiny
CLIP was not trained on.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from m2hf.data_manifests.toybox.captions import SEEN, ScenePart, hidden_parts
from m2hf.data_manifests.toybox.scene import FigureGroup, Scene, is_held_out
from m2hf.data_manifests.toybox.vocabulary import (
    MOTIONS,
    SIGNS,
    SIZES,
    SOUNDS,
    SPOKEN,
    TOYBOX_COLOURS,
    TOYBOX_COUNTS,
    TOYBOX_GROUNDS,
    TOYBOX_SHAPES,
)

Item = TypeVar("Item")

TWINS = 4
BLOCK = 2 * TWINS  # clips: one family of twins, and as many unique ones
MUTE_SHARE, PAIR_SHARE = 0.12, 0.25
SIGN_AND_VOICE = ((True, True), (True, False), (False, True), (False, False))  # in equal parts


def draw_toybox(count: int, seed: int) -> list[Scene]:
    """`count` scenes (at least 0), family by family.

    The same count and seed (at least 0) give the same scenes.
    """
    rng = np.random.default_rng((seed, 2))
    looks = _looks(rng)
    signs, words = _shuffled_cycle(SIGNS, rng), _shuffled_cycle(SPOKEN, rng)
    sounds = _shuffled_cycle(tuple(SOUNDS), rng)
    family_words, lone_words = (
        _shuffled_cycle(SIGN_AND_VOICE, rng),
        _shuffled_cycle(SIGN_AND_VOICE, rng),
    )
    scenes: list[Scene] = []
    while len(scenes) < count:
        in_block = len(scenes) % BLOCK
        twins = TWINS if in_block < TWINS else 1
        groups, ground = next(looks)
        motions = rng.permutation(list(MOTIONS))[:twins]
        # All of a family or none: the presence of a sign or voice must not identify a twin.
        signed, speaks = next(family_words if twins > 1 else lone_words)
        for motion in motions[: count - len(scenes)]:
            mute = rng.random() < MUTE_SHARE
            scenes.append(
                Scene(
                    groups,
                    ground,
                    str(motion),
                    sound=None if mute else next(sounds),
                    sign=next(signs) if signed else None,
                    spoken=next(words) if speaks and not mute else None,
                    seed=int(rng.integers(2**31)),
                )
            )
    return scenes


def caption_kinds(scene: Scene, unique: bool) -> Iterator[tuple[str, tuple[ScenePart, ...]]]:
    """The captions of a test clip: (kind, parts that the caption mentions).

    A kind is the modality needed in addition to appearance: `look` (none), motion, sound, sign or
    spoken. An `unseen` caption mentions no appearance but all of sound, sign and speech, where the
    clip has at least two of them.
    """
    hidden = hidden_parts(scene)
    if unique:
        yield "look", SEEN
    else:
        yield from ((part, (*SEEN, part)) for part in hidden)
    heard = tuple(part for part in hidden if part != "motion")
    if len(heard) > 1:
        yield "unseen", heard


def _looks(rng: np.random.Generator) -> Iterator[tuple[tuple[FigureGroup, ...], str]]:
    """Figures and ground, no two equal; the first figures are a held-out combination."""
    seen = set()
    while True:
        ground = str(rng.choice(TOYBOX_GROUNDS))
        colours = [str(name) for name in rng.permutation(TOYBOX_COLOURS)[:2]]
        shapes = [str(name) for name in rng.permutation(TOYBOX_SHAPES)[:2]]
        pair = rng.random() < PAIR_SHARE
        groups = tuple(
            FigureGroup(int(rng.choice(TOYBOX_COUNTS)), str(rng.choice(list(SIZES))), colour, shape)
            for colour, shape in zip(colours, shapes, strict=True)
        )[: 1 + pair]
        look = (groups, ground)
        if is_held_out(colours[0], shapes[0], ground) and look not in seen:
            seen.add(look)
            yield look


def _shuffled_cycle(items: Sequence[Item], rng: np.random.Generator) -> Iterator[Item]:
    """Endless: all items in random order, again and again; any TWINS in a row are different."""
    last: list[Item] = []
    while True:
        fresh = [item for item in items if item not in last]
        order = [fresh[at] for at in rng.permutation(len(fresh))]
        order += [last[at] for at in rng.permutation(len(last))]
        yield from order
        last = order[1 - TWINS :]
