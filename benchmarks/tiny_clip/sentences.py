"""What the towers are trained to agree on: a picture with a sentence, a sentence with a sentence.

A picture alone would teach the text tower to ignore all that can't be seen, and captions that
differ in a sound would fall together. So sentences about one scene are pairs, too, among pairs
of scenes that look the same: what can't be seen is then all that tells them apart. Some partners
are strings as OCR and speech recognition give them.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from m2hf.data_manifests.toybox.captions import SEEN, ScenePart, hidden_parts, sentence
from m2hf.data_manifests.toybox.families import TWINS
from m2hf.data_manifests.toybox.scene import Scene
from m2hf.data_manifests.toybox.tiny_clip_scenes import WORDS
from m2hf.data_manifests.toybox.vocabulary import MOTIONS, SOUNDS
from m2hf.data_manifests.toybox.voice import SENTENCE

EXTRA_SHARE = 0.25  # of pictures' sentences that also say what can't be seen
MORE_SHARE = 0.3  # of families whose sentences say two parts that can't be seen, not one
SEEN_SHARE = 0.7  # of families whose sentences say the figures, and as many the ground
STRING_SHARE = 0.5  # of families whose partners are a string, where sign or speech is said


def seen(scene: Scene, rng: np.random.Generator) -> str:
    """A sentence about the picture; now and then about more."""
    parts: list[ScenePart] = list(SEEN)
    if rng.random() < 0.15:
        parts.remove("figures" if rng.random() < 0.3 else "ground")
    if rng.random() < EXTRA_SHARE:
        hidden = hidden_parts(scene)
        parts.append(hidden[int(rng.integers(len(hidden)))])
    return sentence(scene, parts, rng)


def pairs(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """For each of TWINS scenes that look like this one, two ways to say the same parts of it.

    The parts are the same for all of them, and one or two can't be seen: only their words tell
    the sentences apart.
    """
    twins = _twins(scene, rng)
    hidden = hidden_parts(twins[0])
    chosen = [hidden[at] for at in rng.permutation(len(hidden))[: 1 + (rng.random() < MORE_SHARE)]]
    parts = [*chosen, *(name for name in SEEN if rng.random() < SEEN_SHARE)]
    strings = [name for name in chosen if name in ("sign", "spoken")]
    read = strings[0] if strings and rng.random() < STRING_SHARE else None
    for twin in twins:
        said = sentence(twin, parts, rng)
        yield said, _string(twin, read, rng) if read else sentence(twin, parts, rng)


def _twins(scene: Scene, rng: np.random.Generator) -> list[Scene]:
    """Scenes that look alike and in all else differ from each other."""
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
    """As OCR or speech recognition would give it."""
    if part == "sign":
        return str(scene.sign)
    text = SENTENCE.format(scene.spoken)
    return text if rng.random() < 0.7 else text.rstrip(".")
