"""Both towers of the tiny CLIP, trained on stills and sentences of the world.

The loss is symmetric InfoNCE of images and sentences, plus half of that between two sentences about
one scene, three quarters as many and in families of the same look, or of the same figures and
sounds (see `sentences`). AdamW, warm-up and cosine. N items of a batch, S the network's side,
W tokens, D joint width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from benchmarks.tiny_clip.sentences import pairs, timed_pairs, visual_sentence
from benchmarks.tiny_clip.stills import Stills
from m2hf.array_types import IntArray
from m2hf.data_manifests.toybox.families import TWINS

# open_clip's own, as the preprocessing applies them.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class TinyClipRecipe:
    """Hyperparameters; sentences_weight: weight of the loss between two sentences."""

    steps: int = 1200
    batch: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.05
    warm_up: int = 200
    sentences_weight: float = 0.5
    seed: int = 0


class Training:
    """One training run of an open_clip model on stills."""

    def __init__(self, model: Any, tokenizer: Any, stills: Stills, recipe: TinyClipRecipe) -> None:
        self.model = model.to(memory_format=torch.channels_last)  # a third faster on a CPU
        self._tokenizer, self._stills, self._recipe = tokenizer, stills, recipe
        self._used: set[int] = set()
        decayed = [p for p in model.parameters() if p.ndim > 1]
        plain = [p for p in model.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=recipe.lr,
            betas=(0.9, 0.98),
        )

    def run(self) -> Iterator[tuple[int, float, float]]:
        """Yields step, loss of images and loss of sentences."""
        recipe = self._recipe
        rng = np.random.default_rng(recipe.seed)
        torch.manual_seed(recipe.seed)
        self.model.train()
        for step in range(recipe.steps):
            for group in self._optimizer.param_groups:
                group["lr"] = recipe.lr * self._rate(step)
            chosen = rng.choice(len(self._stills.scenes), recipe.batch, replace=False)
            losses = self._losses(chosen, rng)
            self._optimizer.zero_grad()
            torch.autograd.backward(losses[0] + recipe.sentences_weight * losses[1])
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self._optimizer.step()
            with torch.no_grad():
                self.model.logit_scale.clamp_(0, np.log(100))
            yield step, losses[0].item(), losses[1].item()
        self._zero_unused_tokens()
        self.model.eval()

    def _losses(self, chosen: IntArray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        scenes = [self._stills.scenes[at] for at in chosen]
        # Half as many pairs of sentences: a sentence costs as much as an image. And a quarter as
        # many, at most, that differ in who goes with a sound.
        heads = scenes[: len(scenes) // (2 * TWINS)]
        timed = [scene for scene in scenes if len(scene.groups) == 2][: len(heads) // 2]
        twins = [both for scene in heads for both in pairs(scene, rng)]
        twins += [both for scene in timed for both in timed_pairs(scene, rng)]
        first, second = zip(*twins, strict=True)
        texts_ND = self._sentences(
            [*(visual_sentence(scene, rng) for scene in scenes), *first, *second]
        )
        visual_ND, first_ND, second_ND = torch.split(
            texts_ND, [len(scenes), len(first), len(second)]
        )
        pixels = self._jitter(self._stills.pixels[chosen], rng)
        images_ND = normalize(self.model.encode_image(pixels), dim=-1)
        return self._contrast(images_ND, visual_ND), self._contrast(first_ND, second_ND)

    def _sentences(self, texts: Sequence[str]) -> Tensor:
        """(N, D) unit vectors as of encode_text, computed without padding beyond the longest."""
        model = self.model
        ids_NW = self._tokenizer(list(texts))
        self._used.update(ids_NW.unique().tolist())
        ends_N = ids_NW.argmax(dim=1)
        longest = int(ends_N.max()) + 1
        x = model.token_embedding(ids_NW[:, :longest]) + model.positional_embedding[:longest]
        x = model.transformer(x, attn_mask=model.attn_mask[:longest, :longest])
        last_ND = model.ln_final(x)[torch.arange(len(x)), ends_N] @ model.text_projection
        return normalize(last_ND, dim=-1)

    def _contrast(self, a_ND: Tensor, b_ND: Tensor) -> Tensor:
        scores_NN = self.model.logit_scale.exp() * a_ND @ b_ND.T
        own_N = torch.arange(len(a_ND))
        return (cross_entropy(scores_NN, own_N) + cross_entropy(scores_NN.T, own_N)) / 2

    def _jitter(self, pixels_NSS3: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
        """(N, 3, S, S) network input with random brightness, shifted by up to two pixels."""
        rows, columns = rng.integers(-2, 3, 2)
        moved = np.roll(pixels_NSS3, (rows, columns), axis=(1, 2))
        x = torch.from_numpy(moved).permute(0, 3, 1, 2).float().div(255)
        light = torch.from_numpy(rng.uniform(0.9, 1.1, (len(moved), 1, 1, 1)).astype(np.float32))
        mean, std = torch.tensor(_MEAN).view(3, 1, 1), torch.tensor(_STD).view(3, 1, 1)
        done = ((x * light).clamp(0, 1) - mean) / std
        return done.contiguous(memory_format=torch.channels_last)

    def _rate(self, step: int) -> float:
        recipe = self._recipe
        if step < recipe.warm_up:
            return (step + 1) / recipe.warm_up
        done = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
        return 0.5 * (1 + float(np.cos(np.pi * done)))

    @torch.no_grad()
    def _zero_unused_tokens(self) -> None:
        """Zero the embeddings of tokens that were never trained: they are noise, zeros compress."""
        table = self.model.token_embedding.weight
        unused = torch.ones(len(table), dtype=torch.bool)
        unused[sorted(self._used)] = False
        table[unused] = 0
