"""What the towers are trained to agree on: a picture with a sentence, a sentence with a sentence.

A picture alone would teach the text tower to ignore all that can't be seen, and captions that
differ in a sound would fall together. So sentences about one scene are pairs, too, and some
partners are strings as OCR and speech recognition give them.
"""

from collections.abc import Sequence

import numpy as np

from m2hf.data_manifests.toybox.captions import SEEN, Part, hidden_parts, sentence
from m2hf.data_manifests.toybox.scene import Scene
from m2hf.data_manifests.toybox.voice import SENTENCE

EXTRA_SHARE = 0.25  # of pictures' sentences that also say what can't be seen
STRING_SHARE = 0.4  # of partners that are a string of the scene, where it has one


def seen(scene: Scene, rng: np.random.Generator) -> str:
    """A sentence about the picture; now and then about more."""
    parts: list[Part] = list(SEEN)
    if rng.random() < 0.15:
        parts.remove("figures" if rng.random() < 0.3 else "ground")
    if rng.random() < EXTRA_SHARE:
        hidden = hidden_parts(scene)
        parts.append(hidden[int(rng.integers(len(hidden)))])
    return sentence(scene, parts, rng)


def pair(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """Two ways to say some parts of a scene, at least one of which can't be seen."""
    hidden = hidden_parts(scene)
    parts: list[Part] = [name for name in hidden if rng.random() < 0.5]
    parts = parts or [hidden[int(rng.integers(len(hidden)))]]
    strings = [name for name in parts if name in ("sign", "spoken")]
    common = [name for name in SEEN if rng.random() < 0.5]
    said = sentence(scene, [*parts, *common], rng)
    if strings and rng.random() < STRING_SHARE:
        return said, _string(scene, strings, rng)
    return said, sentence(scene, [*parts, *common], rng)


def _string(scene: Scene, names: Sequence[Part], rng: np.random.Generator) -> str:
    """As OCR or speech recognition would give it."""
    if names[int(rng.integers(len(names)))] == "sign":
        return str(scene.sign)
    text = SENTENCE.format(scene.spoken)
    return text if rng.random() < 0.7 else text.rstrip(".")
