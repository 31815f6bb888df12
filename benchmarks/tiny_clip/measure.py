"""Evaluation of a tiny CLIP on held-out combinations: zero-shot retrieval and a linear probe.

N stills or sentences, D width, C names.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tiny_clip.sentences import timed_pairs
from benchmarks.tiny_clip.stills import Stills
from m2hf.data_manifests.toybox.captions import SEEN, sentence
from m2hf.data_manifests.toybox.families import TWINS
from m2hf.data_manifests.toybox.scene import Scene
from m2hf.data_manifests.toybox.tiny_clip_scenes import draw_tiny_clip_scenes

GALLERY = 100
PROBED, PROBE_SEED = 300, 1  # sentences to fit the probe, and as many to test it


def galleries(stills: Stills) -> Iterator[list[int]]:
    """Sets of GALLERY stills with distinct visible contents."""
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
        images = torch.stack([preprocess(Image.fromarray(stills.pixels[at])) for at in gallery])
        with torch.inference_mode():
            images_ND = _unit(model.encode_image(images))
            texts_ND = _unit(model.encode_text(tokenizer(texts)))
        best_N = (texts_ND @ images_ND.T).argmax(axis=1)
        found.append(float(100 * (best_N == np.arange(len(gallery))).mean()))
    return found


def probe(model: Any, tokenizer: Any, part: Literal["motion", "sound"]) -> float:
    """Accuracy in percent of a linear classifier of motion, or sound, on held-out sentences.

    Ridge regression to the names, fitted to as many sentences about other scenes. What it can't
    separate, a fusion trained on few captions can't separate either.
    """
    rng = np.random.default_rng(0)
    drawn = draw_tiny_clip_scenes(PROBE_SEED, held_out=True)
    scenes = list(islice((s for s in drawn if getattr(s, part) is not None), 2 * PROBED))
    texts = [sentence(scene, (*SEEN, part), rng) for scene in scenes]
    with torch.inference_mode():
        rows_ND = _unit(model.encode_text(tokenizer(texts))).astype(np.float64)
    names, name_N = np.unique([getattr(scene, part) for scene in scenes], return_inverse=True)
    fit, test = slice(PROBED), slice(PROBED, None)
    centred_ND = rows_ND - rows_ND[fit].mean(axis=0)
    gram_DD = centred_ND[fit].T @ centred_ND[fit]
    ridge_DD = gram_DD + 0.01 * np.trace(gram_DD) / len(gram_DD) * np.eye(len(gram_DD))
    map_DC = np.linalg.solve(ridge_DD, centred_ND[fit].T @ np.eye(len(names))[name_N[fit]])
    found_N = (centred_ND[test] @ map_DC).argmax(axis=1)
    return float(100 * (found_N == name_N[test]).mean())


def who_sounds(model: Any, tokenizer: Any) -> float:
    """Share in percent of sentences whose nearest one among twins is about the same scene.

    By cosine, without a probe: the twins have the same figures and sounds, and differ in which
    figure is there while which sound is heard. Of held-out figures; chance is 100 / TWINS.
    """
    rng = np.random.default_rng(0)
    drawn = draw_tiny_clip_scenes(PROBE_SEED, held_out=True)
    scenes = islice((scene for scene in drawn if len(scene.groups) == 2), PROBED // TWINS)
    pairs = [both for scene in scenes for both in timed_pairs(scene, rng)]
    with torch.inference_mode():
        first_ND, second_ND = (
            _unit(model.encode_text(tokenizer(list(texts)))) for texts in zip(*pairs, strict=True)
        )
    right = [
        (first_ND[at : at + TWINS] @ second_ND[at : at + TWINS].T).argmax(axis=1)
        == np.arange(TWINS)
        for at in range(0, len(pairs), TWINS)
    ]
    return float(100 * np.mean(right))


def _unit(rows: torch.Tensor) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = torch.nn.functional.normalize(rows, dim=-1).numpy()
    return unit
