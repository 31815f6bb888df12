"""Positive pairs of the contrastive training: image and sentence, sentence and sentence.

Images alone would train the text tower to ignore everything that is not visible, and captions that
differ in a sound only would get equal vectors. So two sentences about one scene are a positive
pair, too, and the negatives are scenes that look the same: only what is not visible separates
them. Some partners are strings as OCR and speech recognition give them. In other families two
figures and two sounds are the same, and only who goes with which sound separates the sentences.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from m2hf.data_manifests.toybox.captions import (
    SEEN,
    ScenePart,
    hidden_parts,
    sentence,
    timed_sentence,
)
from m2hf.data_manifests.toybox.families import TWINS
from m2hf.data_manifests.toybox.scene import Scene
from m2hf.data_manifests.toybox.tiny_clip_scenes import WORDS
from m2hf.data_manifests.toybox.vocabulary import MOTIONS, SOUNDS
from m2hf.data_manifests.toybox.voice import SENTENCE

EXTRA_SHARE = 0.25  # of image sentences that also mention something not visible
TIMED_SHARE = 0.25  # of image sentences about two groups of figures: one of them has the sound
MORE_SHARE = 0.3  # of families whose sentences mention two parts that are not visible, not one
SEEN_SHARE = 0.7  # of families whose sentences mention the figures; the same for the ground
STRING_SHARE = 0.5  # of families with sign or speech whose partners are the bare string


def visual_sentence(scene: Scene, rng: np.random.Generator) -> str:
    """A sentence about the visible parts; a share of them adds one that is not visible."""
    if len(scene.groups) == 2 and rng.random() < TIMED_SHARE:
        return next(timed_pairs(scene, rng))[0]
    parts: list[ScenePart] = list(SEEN)
    if rng.random() < 0.15:
        parts.remove("figures" if rng.random() < 0.3 else "ground")
    if rng.random() < EXTRA_SHARE:
        hidden = hidden_parts(scene)
        parts.append(hidden[int(rng.integers(len(hidden)))])
    return sentence(scene, parts, rng)


def pairs(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """For each of TWINS scenes that look like this one, two sentences about the same parts of it.

    The parts are the same for all of them, and one or two are not visible: only these separate
    the sentences.
    """
    twins = _twins(scene, rng)
    hidden = hidden_parts(twins[0])
    chosen = [hidden[at] for at in rng.permutation(len(hidden))[: 1 + (rng.random() < MORE_SHARE)]]
    parts = [*chosen, *(name for name in SEEN if rng.random() < SEEN_SHARE)]
    strings = [name for name in chosen if name in ("sign", "spoken")]
    read = strings[0] if strings and rng.random() < STRING_SHARE else None
    for twin in twins:
        first = sentence(twin, parts, rng)
        yield first, _string(twin, read, rng) if read else sentence(twin, parts, rng)


def timed_pairs(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """For each of TWINS scenes with the two groups of figures of this one, two sentences about it.

    One of two sounds is heard while one of the groups is there.
    """
    groups = [scene.groups[at] for at in rng.permutation(2)]
    for sound in rng.permutation(list(SOUNDS))[:2]:
        for sounding, quiet in (groups, groups[::-1]):
            first, second = (timed_sentence(sounding, quiet, str(sound), rng) for _ in range(2))
            yield first, second


def _twins(scene: Scene, rng: np.random.Generator) -> list[Scene]:
    """Scenes that look the same and differ from each other in everything else."""
    motions, sounds = (rng.permutation(list(names))[:TWINS] for names in (MOTIONS, SOUNDS))
    words = rng.permutation(list(WORDS))[: 2 * TWINS]
    return [
        replace(
            scene,
            motion=str(motions[at]),
            place=None,
            sound=str(sounds[at]),
            sign=str(words[2 * at]).upper(),
            spoken=str(words[2 * at + 1]),
        )
        for at in range(TWINS)
    ]


def _string(scene: Scene, part: ScenePart, rng: np.random.Generator) -> str:
    """The string as OCR or speech recognition gives it."""
    if part == "sign":
        return str(scene.sign)
    text = SENTENCE.format(scene.spoken)
    return text if rng.random() < 0.7 else text.rstrip(".")
