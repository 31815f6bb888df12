"""Single frames of world scenes, as the network's preprocessing leaves them, and their scenes.

N stills, S the network's side.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2hf.data_manifests.toybox.drawing import SceneRenderer
from m2hf.data_manifests.toybox.scene import SECONDS, Scene
from m2hf.data_manifests.toybox.tiny_clip_scenes import draw_tiny_clip_scenes

_CHUNK = 250  # scenes per task of a process


@dataclass(frozen=True, eq=False)
class Stills:
    """pixels (N, S, S, 3) uint8 of the scenes, each at a moment of its own."""

    scenes: tuple[Scene, ...]
    pixels: NDArray[np.uint8]

    @classmethod
    def draw(cls, count: int, side: int, seed: int, held_out: bool, processes: int) -> "Stills":
        """Equal arguments give equal stills; `processes` doesn't matter."""
        scenes = tuple(islice(draw_tiny_clip_scenes(seed, held_out), count))
        chunks = [scenes[at : at + _CHUNK] for at in range(0, count, _CHUNK)]
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            drawn = list(pool.map(_draw, chunks, [side] * len(chunks)))
        return cls(scenes, np.concatenate(drawn))


def _draw(scenes: Sequence[Scene], side: int) -> NDArray[np.uint8]:
    pixels = []
    for scene in scenes:
        moment = np.random.default_rng(scene.seed + 1).uniform(0, SECONDS)
        image = Image.fromarray(SceneRenderer(scene).frame(moment))
        # As open_clip resizes an image that it squashes.
        pixels.append(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)))
    return np.stack(pixels)
