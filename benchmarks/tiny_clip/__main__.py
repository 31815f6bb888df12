"""`python -m benchmarks.tiny_clip --out FILE`: train the tiny CLIP that ships with m2hf.

Prints the training loss, then zero-shot T2V R@1 in galleries of 100 held-out stills, and the
accuracy of a linear probe for what no frame shows on sentence vectors and of the nearest sentence
among twins, all with the file that was written. Without --out it evaluates --weights, by default
those of the package.
"""

import argparse
import copy
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from benchmarks.tiny_clip.measure import probe, who_sounds, zero_shot
from benchmarks.tiny_clip.stills import Stills
from benchmarks.tiny_clip.train import TinyClipRecipe, Training
from m2hf.atomic import atomic_write
from m2hf.extract.networks.clip_files import TINY, TOYBOX
from m2hf.extract.networks.encoder import Encoder
from m2hf.pipelines.heap import keep_freed_memory

TEST_STILLS, TEST_SEED = 1200, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and write, or evaluate existing weights."""
    recipe = TinyClipRecipe()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiny_clip", description=__doc__)
    parser.add_argument("--out", type=Path, help="file to write; evaluates only if absent")
    parser.add_argument("--weights", type=Path, help="file to evaluate")
    parser.add_argument("--stills", type=int, default=30_000)
    parser.add_argument("--steps", type=int, default=recipe.steps)
    parser.add_argument("--batch", type=int, default=recipe.batch)
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    if given.out is not None:
        recipe = dataclasses.replace(recipe, steps=given.steps, batch=given.batch, seed=given.seed)
        _train(given.out, recipe, given.stills, given.threads)
    measured = given.out or given.weights
    weights = TOYBOX if measured is None else str(measured)
    opened = Encoder(model=TINY, pretrained=weights).open("cpu")
    test = Stills.draw(
        TEST_STILLS, _side(opened.model), TEST_SEED, held_out=True, processes=given.threads
    )
    found = zero_shot(opened.model, opened.tokenizer, opened.preprocess, test)
    print(
        f"held-out combinations, {len(found)} galleries of 100: zero-shot T2V R@1 "
        f"{np.mean(found):.1f} +- {np.std(found):.1f}"
    )
    accuracy = {part: probe(opened.model, opened.tokenizer, part) for part in ("motion", "sound")}
    print(
        "accuracy of a linear probe of sentences: "
        + ", ".join(f"{k} {v:.1f} %" for k, v in accuracy.items())
    )
    found_twins = who_sounds(opened.model, opened.tokenizer)
    print(f"nearest sentence among twins, by which figure sounds: {found_twins:.1f} %")
    return 0


def _train(out: Path, recipe: TinyClipRecipe, count: int, processes: int) -> None:
    torch.manual_seed(recipe.seed)
    opened = Encoder(model=TINY, pretrained="", seed=recipe.seed).open("cpu")
    model: Any = copy.deepcopy(opened.model)  # the process caches opened models
    began = time.perf_counter()
    stills = Stills.draw(count, _side(model), recipe.seed, held_out=False, processes=processes)
    print(f"{count} stills drawn in {time.perf_counter() - began:.0f} s", flush=True)
    began = time.perf_counter()
    for step, images, sentences in Training(model, opened.tokenizer, stills, recipe).run():
        if step % 50 == 0 or step == recipe.steps - 1:
            seconds = time.perf_counter() - began
            print(f"{step} {images:.3f} {sentences:.3f} {seconds:.0f} s", flush=True)
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    with atomic_write(out) as temporary:
        safetensors.torch.save_file(tensors, temporary)


def _side(model: Any) -> int:
    """Side of the network's square input in pixels."""
    size = model.visual.image_size
    return int(size if isinstance(size, int) else size[0])


if __name__ == "__main__":
    sys.exit(main())
