"""Random features in a store, read and trained on as the fusion does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from benchmarks.levels.corpus import NAME, write_stream
from m2hf.array_types import FloatArray
from m2hf.config import parse, read_recipe
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.distributed import SINGLE_PROCESS
from m2hf.fuse.features.gallery import Gallery
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model.tokens import Tokens, caption_tokens, video_tokens
from m2hf.fuse.training.balance import PairLosses
from m2hf.fuse.training.stage import Stage
from m2hf.fuse.training.trainer import Trainer, TrainingData
from m2hf.manifest import Caption

_WIDTH = 512
_STREAMS = {"clip": 1.0, "audio": 0.9, "motion": 1.0, "text": 0.6}  # share of videos that have it
_READ = ("frames", "audio", "motion")
_BATCHES = 20
_STEPS = 4  # an epoch


@dataclass(frozen=True, eq=False)
class RandomFeatures:
    """Features of videos of 8 to 15 rows with one caption each, written to `root`."""

    store: FeatureStore
    config: FusionConfig
    videos: tuple[str, ...]

    @classmethod
    def write(cls, root: Path, videos: int) -> Self:
        rng = np.random.default_rng(0)
        ids = tuple(f"v{n:06d}" for n in range(videos))
        for name, share in _STREAMS.items():
            items = {i: _rows(rng, int(rng.integers(8, 16))) for i in ids if rng.random() < share}
            write_stream(root, name, items, _WIDTH, 0)
        write_stream(root, "caption", {f"{i}#0": _rows(rng, 1) for i in ids}, _WIDTH, 0)
        config = parse(FusionConfig, read_recipe(None, ["fuse.device=cpu"])["fuse"])
        return cls(FeatureStore.open(root, NAME, config), config, ids)

    def batches(self, size: int) -> list[Sequence[str]]:
        """Ids of random videos, twenty batches of them."""
        rng = np.random.default_rng(1)
        size = min(size, len(self.videos))
        chosen = (rng.choice(len(self.videos), size, replace=False) for _ in range(_BATCHES))
        return [[self.videos[i] for i in places] for places in chosen]

    def read(self, ids: Sequence[str]) -> list[FloatArray]:
        """Padded values of three streams."""
        return [self.store[role].gather(ids).values_BND for role in _READ]

    def training_steps(self, size: int) -> "TrainingSteps":
        """Steps of `size` captions."""
        ids = [i for part in self.batches(size) for i in part][: _STEPS * size]
        captions = [Caption(f"{i}#0", i, "") for i in dict.fromkeys(ids)]
        return TrainingSteps(self.store, self.config, captions, size)


class TrainingSteps:
    """An epoch of the trainer, and a bare loop over batches that are in memory, in seconds a step
    alike: both train a network of their own."""

    def __init__(
        self, store: FeatureStore, config: FusionConfig, captions: Sequence[Caption], size: int
    ) -> None:
        train = config.train.model_copy(update={"batch_size": size, "epochs": 1000})
        self._config = config.model_copy(update={"train": train})
        data = TrainingData(store, captions, Gallery.of_captions(captions[:2]))
        self._trainer = Trainer(data, SINGLE_PROCESS)
        self._stage, self._bare = self._new(data), self._new(data)
        self._trainer.advance(self._stage)
        parts = [captions[start : start + size] for start in range(0, len(captions), size)]
        self._batches = [_Loaded.of(self._bare, store, part) for part in parts]

    def from_disk(self) -> None:
        """An epoch, and validation on two videos."""
        self._trainer.advance(self._stage)

    def in_memory(self) -> None:
        """The same forward and backward passes, and nothing else."""
        model = self._bare.model.train()
        for batch in self._batches:
            scores = model.score(
                model.encode_queries(batch.captions), model.encode_videos(batch.videos)
            )
            pairs = PairLosses.of(
                model.scale_L[:, None, None] * scores.levels, scores.valid, batch.positives_QB
            )
            fused_QB = model.late(scores.levels, scores.valid)
            available_B = scores.valid.any(dim=0)
            loss = model.late.loss(fused_QB, batch.positives_QB, available_B, model.contrast)
            self._bare.optimiser.zero_grad()
            torch.autograd.backward(loss + self._config.train.level_loss * pairs.mean_L.sum())
            self._bare.optimiser.step()

    def _new(self, data: TrainingData) -> Stage:
        return Stage(self._config, data.widths, torch.device("cpu"), "")


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A batch as tensors."""

    captions: Mapping[str, Tokens]
    videos: Mapping[str, Tokens]
    positives_QB: torch.Tensor

    @classmethod
    def of(cls, stage: Stage, store: FeatureStore, captions: Sequence[Caption]) -> Self:
        gallery, device = Gallery.of_captions(captions), torch.device("cpu")
        return cls(
            caption_tokens(store, gallery.query_ids, stage.model.query_rows, device),
            video_tokens(store, gallery.video_ids, device),
            torch.from_numpy(gallery.positives_QV),
        )


def random_tokens(count: int, fewest: int, most: int, sentence: bool = False) -> Tokens:
    """Items of `fewest` to `most` rows; sentence: with one more before them."""
    generator = torch.Generator().manual_seed(most)
    counts = torch.randint(fewest, most + 1, (count,), generator=generator) + sentence
    mask = torch.arange(most + sentence) < counts[:, None]
    values = torch.randn(*mask.shape, _WIDTH, generator=generator)
    return Tokens(values, mask, torch.zeros(mask.shape))


def _rows(rng: np.random.Generator, count: int) -> Features:
    values = rng.standard_normal((count, _WIDTH), dtype=np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    starts = np.arange(count, dtype=np.float64)
    return Features(values, starts, starts + 1)
