"""What one generated clip holds, and the sentences that describe it.

Everything is dealt from decks, so neighbours differ: any 36 scenes in a row have different
(colour, shape) leads, and signs and spoken words come again as late as they can.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, product
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

WIDTH, HEIGHT, FPS = 320, 240, 12  # pixels, pixels, frames per second
SECONDS = 3.0

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple")
GROUNDS = {
    "stripes": "a striped background",
    "checks": "a checkered background",
    "dots": "a dotted background",
    "bricks": "a brick wall",
    "waves": "a wavy background",
}
# What the subject does, and the same as a participle.
MOTIONS = {
    "right": ("slides to the right", "sliding to the right"),
    "left": ("slides to the left", "sliding to the left"),
    "up": ("moves up", "moving up"),
    "down": ("moves down", "moving down"),
    "spin": ("spins", "spinning"),
    "bounce": ("bounces", "bouncing"),
    "grow": ("grows", "growing"),
}
SOUNDS = {
    "low": "a low tone plays",
    "high": "a high tone plays",
    "beeps": "short beeps repeat",
    "noise": "static hisses",
    "siren": "a siren wails",
    "drum": "a drum beats",
}
SIGNS = (
    *("COFFEE", "MUSEUM", "STATION", "BAKERY", "GARDEN", "HOTEL"),
    *("LIBRARY", "MARKET", "PHARMACY", "SCHOOL", "TICKETS", "BEACH"),
)
SPOKEN = (
    *("dragon", "banana", "spider", "guitar", "tiger", "rocket"),
    *("tomato", "computer", "flower", "camera", "chicken", "piano"),
)

SIGN_SHARE, SPOKEN_SHARE, MUTE_SHARE, PAIR_SHARE = 0.4, 0.4, 0.12, 0.35


@dataclass(frozen=True)
class Figure:
    """One coloured shape and how it moves; keys of SHAPES, COLOURS and MOTIONS."""

    shape: str
    colour: str
    motion: str


@dataclass(frozen=True)
class Scene:
    """The truth about one clip: one or two figures, the ground, a sign, what is heard.

    `sound` is a key of SOUNDS, or None for a clip without an audio track; `sign` is one of SIGNS
    or None; `spoken` is one of SPOKEN or None. `seed` settles what no caption mentions.
    """

    figures: tuple[Figure, ...]
    ground: str
    sound: str | None
    sign: str | None
    spoken: str | None
    seed: int

    @property
    def has_audio(self) -> bool:
        """Whether the clip has an audio track at all."""
        return self.sound is not None


def draw_scenes(count: int, seed: int) -> list[Scene]:
    """`count` scenes (at least 0), no two alike in what a caption can mention.

    The same count and seed (at least 0) give the same scenes.
    """
    rng = np.random.default_rng(seed)
    leads = cycle(_shuffled(list(product(COLOURS, SHAPES)), rng))
    signs, words = cycle(_shuffled(SIGNS, rng)), cycle(_shuffled(SPOKEN, rng))
    sounds, grounds = _dealt(list(SOUNDS), rng), _dealt(list(GROUNDS), rng)
    # Exact quotas in a random order: ten clips already hold a bit of everything.
    signed = rng.permutation(count) < round(SIGN_SHARE * count)
    paired = rng.permutation(count) < round(PAIR_SHARE * count)
    role = rng.permutation(count)
    mute = role < round(MUTE_SHARE * count)
    spoken = role >= count - round(SPOKEN_SHARE * count)

    scenes: list[Scene] = []
    seen: set[Scene] = set()
    for at in range(count):
        colour, shape = next(leads)
        sound = None if mute[at] else next(sounds)
        sign = next(signs) if signed[at] else None
        word = next(words) if spoken[at] else None
        while True:
            figures = _figures(colour, shape, bool(paired[at]), rng)
            scene = Scene(figures, next(grounds), sound, sign, word, seed=0)
            if scene not in seen:
                break
        seen.add(scene)
        scenes.append(replace(scene, seed=int(rng.integers(2**31))))
    return scenes


def captions(scene: Scene, count: int, rng: np.random.Generator, least: int = 1) -> list[str]:
    """`count` sentences, each of which mentions a random part of the scene and nothing else.

    Each mentions at least `least` of its parts (figures, ground, sign, sound, voice), or all if
    there are fewer. They differ from each other as long as there is another to be had.
    """
    found: list[str] = []
    tries = 0
    while len(found) < count:
        caption = _sentence(scene, rng, least)
        tries += 1
        if caption not in found or tries > 20 * count:
            found.append(caption)
    return found


def _dealt(items: Sequence[Item], rng: np.random.Generator) -> Iterator[Item]:
    # A new order each round: in one order, six sounds would stay in step with 36 leads.
    while True:
        yield from _shuffled(items, rng)


def _shuffled(items: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    return [items[at] for at in rng.permutation(len(items))]


def _figures(colour: str, shape: str, paired: bool, rng: np.random.Generator) -> tuple[Figure, ...]:
    lead = Figure(shape, colour, _motion(shape, rng))
    if not paired:
        return (lead,)
    other = str(rng.choice([name for name in SHAPES if name != shape]))
    hue = str(rng.choice([name for name in COLOURS if name != colour]))
    return (lead, Figure(other, hue, _motion(other, rng)))


def _motion(shape: str, rng: np.random.Generator) -> str:
    # A spinning circle looks like one that stands still.
    return str(rng.choice([name for name in MOTIONS if (shape, name) != ("circle", "spin")]))


def _sentence(scene: Scene, rng: np.random.Generator, least: int) -> str:
    parts: list[Figure | str] = [*scene.figures, "ground"]
    parts += [name for name in ("sign", "sound", "spoken") if getattr(scene, name) is not None]
    chosen: list[Figure | str] = []
    while len(chosen) < min(least, len(parts)) or not chosen:
        chosen = [part for part in parts if rng.random() < 0.55]

    clauses = []
    if "sign" in chosen:
        clauses.append(f"a sign reads {scene.sign}")
    if "spoken" in chosen:
        clauses.append(f"{rng.choice(['a voice', 'someone'])} says {scene.spoken}")
    if "sound" in chosen and scene.sound is not None:
        clauses.append(SOUNDS[scene.sound])
    clauses = _shuffled(clauses, rng)

    place = f" on {GROUNDS[scene.ground]}" if "ground" in chosen else ""
    figures = [part for part in chosen if isinstance(part, Figure)]
    if figures and rng.random() < 0.5:
        acts = [f"{_noun(figure, moving=False)} {MOTIONS[figure.motion][0]}" for figure in figures]
        clauses.insert(int(rng.integers(len(clauses) + 1)), " and ".join(acts) + place)
    elif figures:
        nouns = " and ".join(_noun(figure, moving=rng.random() < 0.5) for figure in figures)
        link = " next to " if clauses and clauses[0].startswith("a sign") else " over "
        clauses[:1] = [link.join([*clauses[:1], nouns + place])]
    elif place:
        clauses.append(f"there is {GROUNDS[scene.ground]}")
    if len(clauses) < 3:
        return " while ".join(clauses)
    return ", ".join(clauses[:-1]) + ", and " + clauses[-1]


def _noun(figure: Figure, moving: bool) -> str:
    noun = f"{figure.colour} {figure.shape}"
    participle = MOTIONS[figure.motion][1]
    if moving and " " in participle:
        noun = f"{noun} {participle}"
    elif moving:
        noun = f"{participle} {noun}"
    return f"{'an' if noun[0] == 'o' else 'a'} {noun}"
