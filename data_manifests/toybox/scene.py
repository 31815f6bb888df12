"""The content of one clip, and which scenes are held out from the training of the tiny CLIP."""

import hashlib
from dataclasses import dataclass

WIDTH, HEIGHT, FPS = 320, 240, 8  # pixels, pixels, frames per second
SECONDS = 4.0
FRAMES = round(FPS * SECONDS)

HELD_OUT = 5  # one in this many combinations of colour, shape and ground


@dataclass(frozen=True)
class FigureGroup:
    """Identical figures side by side; keys of COUNTS, SIZES, COLOURS and SHAPES."""

    count: int
    size: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Scene:
    """One or two groups of figures, the ground, the motion of all figures, sound, sign and speech.

    `place` is a key of PLACES, or None where the figures fill the frame or move; `sound` is a key
    of SOUNDS, or None for a clip without an audio track; `sign` and `spoken` are words, or None.
    `seed` determines what no caption mentions.
    """

    groups: tuple[FigureGroup, ...]
    ground: str
    motion: str
    place: str | None = None
    sound: str | None = None
    sign: str | None = None
    spoken: str | None = None
    seed: int = 0

    @property
    def has_audio(self) -> bool:
        """Whether the clip has an audio track."""
        return self.sound is not None

    @property
    def held_out(self) -> bool:
        """Whether any group on its ground is a combination that no training scene has."""
        return any(is_held_out(group.colour, group.shape, self.ground) for group in self.groups)


def is_held_out(colour: str, shape: str, ground: str) -> bool:
    """Whether a combination is held out: a fixed one in HELD_OUT, by hash."""
    digest = hashlib.sha256(f"{colour} {shape} {ground}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT == 0
