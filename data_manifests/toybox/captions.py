"""Captions of a scene: sentences that mention a given set of its parts and nothing else."""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

import numpy as np

from m2hf.data_manifests.toybox.scene import FigureGroup, Scene
from m2hf.data_manifests.toybox.vocabulary import (
    COLOURS,
    COUNTS,
    GROUNDS,
    HEARD,
    MOTIONS,
    PLACES,
    QUIET,
    READ,
    SHAPES,
    SIZES,
    SOUNDING,
    SOUNDS,
)

ScenePart = Literal["figures", "ground", "motion", "sound", "sign", "spoken"]
SEEN: tuple[ScenePart, ...] = ("figures", "ground")  # visible in one frame, and known to CLIP
_PLURAL = {"cross": "crosses", "plus": "pluses", "box": "boxes", "rhombus": "rhombi"}

Item = TypeVar("Item")


def parts_of(scene: Scene) -> tuple[ScenePart, ...]:
    """The parts that the scene has, all of which a caption can mention."""
    optional: list[ScenePart] = ["sound"] if scene.sound is not None else []
    optional += ["sign"] if scene.sign is not None else []
    optional += ["spoken"] if scene.spoken is not None else []
    return ("figures", "ground", "motion", *optional)


def hidden_parts(scene: Scene) -> list[ScenePart]:
    """The parts that are not visible in a single frame."""
    return [part for part in parts_of(scene) if part not in SEEN]


def sentence(scene: Scene, parts: Iterable[ScenePart], rng: np.random.Generator) -> str:
    """One sentence that mentions exactly these parts of the scene, in words drawn by `rng`.

    Raises ValueError for a part that the scene doesn't have, and for no parts at all.
    """
    chosen = set(parts)
    unknown = sorted(chosen - set(parts_of(scene)))
    if unknown or not chosen:
        raise ValueError(f"a sentence about {unknown or 'nothing'} of {scene}")
    clauses = []
    if "sign" in chosen:
        clauses.append(_pick(READ, rng).format(scene.sign))
    if "spoken" in chosen:
        clauses.append(_pick(HEARD, rng).format(scene.spoken))
    if "sound" in chosen and scene.sound is not None:
        clauses.append(_pick(SOUNDS[scene.sound], rng))
    clauses = [clauses[at] for at in rng.permutation(len(clauses))]
    if visual := _visual_clause(scene, chosen, rng):
        clauses.insert(0 if rng.random() < 0.7 else len(clauses), visual)
    if len(clauses) < 3:
        return " while ".join(clauses)
    return ", ".join(clauses[:-1]) + " and " + clauses[-1]


def timed_sentence(
    sounding: FigureGroup, quiet: FigureGroup, sound: str, rng: np.random.Generator
) -> str:
    """One sentence that mentions both figures and with which of them the sound is heard.

    The order of its clauses is random, and says nothing about which figure comes first.
    """
    heard = _pick(SOUNDS[sound], rng)
    clauses = [_pick(SOUNDING, rng).format(sound=heard, **_subject(sounding, rng))]
    clauses.append(_pick(QUIET, rng).format(**_subject(quiet, rng)))
    return ", ".join(clauses[at] for at in rng.permutation(2))


def _subject(group: FigureGroup, rng: np.random.Generator) -> dict[str, str]:
    return {"figure": _noun(group, rng), "is_": "are" if group.count > 1 else "is"}


def _visual_clause(scene: Scene, chosen: set[ScenePart], rng: np.random.Generator) -> str:
    """One clause about figures, ground and motion; "" where none of them is chosen."""
    ground = _pick(GROUNDS[scene.ground], rng)
    motion = _pick(MOTIONS[scene.motion], rng)
    if "figures" not in chosen:
        if "motion" in chosen:
            return f"something {motion}" + (f" on {ground}" if "ground" in chosen else "")
        return f"there is {ground}" if "ground" in chosen else ""
    nouns = [_noun(group, rng) for group in scene.groups]
    text = _pick((" and ", " next to ", " beside "), rng).join(nouns)
    if "motion" in chosen:
        one = len(nouns) == 1 and scene.groups[0].count == 1
        text += f" {motion if one else _plural_verb(motion)}"
    elif scene.place is not None and rng.random() < 0.7:
        text += f" {_pick(PLACES[scene.place], rng)}"
    if "ground" in chosen:
        text += f" {_pick(('on', 'in front of', 'over'), rng)} {ground}"
    return text


def _noun(group: FigureGroup, rng: np.random.Generator) -> str:
    many = group.count > 1
    shape = _pick(SHAPES[group.shape], rng)
    words = [
        _pick(SIZES[group.size], rng),
        _pick(COLOURS[group.colour], rng),
        _PLURAL.get(shape, f"{shape}s") if many else shape,
    ]
    return f"{_pick(COUNTS[group.count], rng)} {' '.join(words)}"


def _plural_verb(motion: str) -> str:
    verb, _, rest = motion.partition(" ")
    return f"{verb.removesuffix('s')} {rest}".strip()


def _pick(names: Sequence[Item], rng: np.random.Generator) -> Item:
    return names[int(rng.integers(len(names)))]
