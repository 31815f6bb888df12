"""What a tiny CLIP tells apart, on combinations that it was never trained on. N stills, D width."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tiny_clip.stills import Stills
from m2hf.data_manifests.toybox.captions import SEEN, sentence
from m2hf.data_manifests.toybox.scene import Scene

GALLERY = 100


def galleries(stills: Stills) -> Iterator[list[int]]:
    """Sets of GALLERY stills of which no two can be described alike."""
    now: dict[Scene, int] = {}
    for at, scene in enumerate(stills.scenes):
        visible = replace(scene, motion="still", sound=None, sign=None, spoken=None, seed=0)
        now.setdefault(visible, at)
        if len(now) == GALLERY:
            yield list(now.values())
            now = {}


def zero_shot(model: Any, tokenizer: Any, preprocess: Any, stills: Stills) -> list[float]:
    """T2V R@1 in percent for each gallery: one visual caption a still, by cosine."""
    from PIL import Image

    rng = np.random.default_rng(0)
    found = []
    for gallery in galleries(stills):
        texts = [sentence(stills.scenes[at], SEEN, rng) for at in gallery]
        pictures = torch.stack([preprocess(Image.fromarray(stills.pixels[at])) for at in gallery])
        with torch.inference_mode():
            pictures_ND = _unit(model.encode_image(pictures))
            texts_ND = _unit(model.encode_text(tokenizer(texts)))
        best_N = (texts_ND @ pictures_ND.T).argmax(axis=1)
        found.append(float(100 * (best_N == np.arange(len(gallery))).mean()))
    return found


def _unit(rows: torch.Tensor) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = torch.nn.functional.normalize(rows, dim=-1).numpy()
    return unit
