"""End-to-end training on cached features, on one device.

loss = NCE(fused) + lambda sum_l NCE(level l), over available samples only (design 6; our
reading). The epoch is chosen on a validation part, never on test, and the late fusion is then
calibrated on that part.

L levels, Q captions and B videos of a batch.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2hf.atomic import atomic_text
from m2hf.errors import M2hfError, UsageError
from m2hf.fuse import checkpoint
from m2hf.fuse.config import LATE_FUSION, FusionConfig
from m2hf.fuse.devices import repeatable
from m2hf.fuse.gallery import Gallery, GalleryScores, score_gallery
from m2hf.fuse.levels import completion_regret
from m2hf.fuse.metrics import t2v_ranks
from m2hf.fuse.model import M2HF
from m2hf.fuse.optimiser import adamw, warm_cosine
from m2hf.fuse.splits import train_and_val, usable_captions
from m2hf.fuse.store import FeatureStore
from m2hf.fuse.tokens import caption_tokens, video_tokens
from m2hf.manifest import Caption, Manifest

CONFIG_NAME = "config.json"
LOG_NAME = "metrics.jsonl"

_CALIBRATION_VIDEOS = 1024  # of the validation part; two numbers a level need no more


@dataclass(frozen=True)
class EpochReport:
    """One epoch: mean training losses of each level and of the fusion, validation loss, T2V R@1
    in percent by level and of the fusion, and whether it is the best so far. Epoch 0 is the
    model before any step, whose visual level is zero-shot; it has no training losses."""

    epoch: int
    epochs: int
    loss: dict[str, float]
    val_loss: float
    val_recall: dict[str, float]
    best: bool


@dataclass(frozen=True)
class TrainSummary:
    """What came of a run: val_recall is T2V R@1 in percent of the kept weights after
    calibration; left_out counts training videos without frames or without captions; flags are
    those of the features, by role."""

    checkpoint: Path
    epochs: int
    best_epoch: int
    train_videos: int
    train_captions: int
    val_videos: int
    left_out: int
    val_recall: dict[str, float]
    flags: dict[str, tuple[str, ...]]


def train(
    manifest: Manifest,
    store_root: Path,
    run_dir: Path,
    config: FusionConfig,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> TrainSummary:
    """Train on the train split of `manifest`; write checkpoint.safetensors, config.json (the
    resolved config) and metrics.jsonl (one line an epoch) into `run_dir`.

    Raises UsageError where a stream or a split lacks what it needs, MismatchError for streams
    that don't belong together.
    """
    store = FeatureStore.open(store_root, manifest.card.name, config)
    train_rows, val_rows = train_and_val(manifest, config.train.val_fraction)
    captions = usable_captions(train_rows, store)
    videos = {caption.video for caption in captions}
    if len(videos) < 2:
        raise UsageError(
            f"split train: {len(videos)} of its {len(train_rows)} videos have frames and a "
            "caption in the store, and training needs two; extract `clip` and `caption` first"
        )
    val = Gallery.of(val_rows, store, "val")
    atomic_text(run_dir / CONFIG_NAME, config.model_dump_json(indent=2) + "\n")
    with repeatable(config) as device:
        trainer = _Trainer(store, captions, val, config, device)
        best_epoch, epochs = trainer.fit(run_dir / LOG_NAME, on_epoch)
        trainer.calibrate()
        recall = trainer.recall(trainer.validate())
        header = checkpoint.CheckpointHeader(
            config, store.info, manifest.card.name, manifest.digest, best_epoch
        )
        checkpoint.save(run_dir / checkpoint.FILE_NAME, trainer.model, header)
    return TrainSummary(
        checkpoint=run_dir / checkpoint.FILE_NAME,
        epochs=epochs,
        best_epoch=best_epoch,
        train_videos=len(videos),
        train_captions=len(captions),
        val_videos=len(val_rows),
        left_out=len(train_rows) - len(videos),
        val_recall=recall,
        flags={role: tuple(info.flags) for role, info in store.info.items() if info.flags},
    )


class _Trainer:
    """The state of one run."""

    def __init__(
        self,
        store: FeatureStore,
        captions: Sequence[Caption],
        val: Gallery,
        config: FusionConfig,
        device: torch.device,
    ) -> None:
        self.store, self.captions, self.val = store, captions, val
        self.settings, self.completion, self.device = config.train, config.completion, device
        widths = {role: info.width for role, info in store.info.items()}
        self.model = M2HF(config, widths).to(device)
        self.optimiser = adamw(self.model, self.settings)
        steps = self.settings.epochs * math.ceil(len(captions) / self.settings.batch_size)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: warm_cosine(step, steps, self.settings.warmup)
        )
        self.order = np.random.default_rng(self.settings.seed)

    def fit(self, log: Path, on_epoch: Callable[[EpochReport], None] | None) -> tuple[int, int]:
        """Train until the epochs or the patience run out and go back to the best weights;
        returns the best epoch and how many there were."""
        start = self.validate()
        self.model.late.standardise(*self._tensors(start.levels_LQV, start.valid_LV))
        best, best_epoch, lines = (-math.inf, -math.inf), 0, ""
        weights: dict[str, Tensor] = {}
        for epoch in range(self.settings.epochs + 1):
            losses = self._epoch() if epoch else {}
            scores = self.validate()
            recall, loss = self.recall(scores), self._loss(scores)
            if (recall[LATE_FUSION], -loss) > best:
                best, best_epoch = (recall[LATE_FUSION], -loss), epoch
                weights = {name: value.clone() for name, value in self.model.state_dict().items()}
            report = EpochReport(
                epoch, self.settings.epochs, losses, loss, recall, epoch == best_epoch
            )
            lines += json.dumps(asdict(report)) + "\n"
            atomic_text(log, lines)
            if on_epoch is not None:
                on_epoch(report)
            if epoch - best_epoch >= self.settings.patience:
                break
        self.model.load_state_dict(weights)
        return best_epoch, epoch

    def calibrate(self) -> None:
        """Fit the late fusion on one caption of each validation video."""
        scores = self.validate()
        queries = self.val.one_query_each(scores.asked_Q)[:_CALIBRATION_VIDEOS]
        videos = self.val.video_of_query[queries]
        levels, valid = self._tensors(
            scores.levels_LQV[:, queries][:, :, videos], scores.valid_LV[:, videos]
        )
        positives = torch.eye(len(videos), dtype=torch.bool, device=self.device)
        self.model.late.calibrate(levels, valid, positives, self.model.contrast)

    def validate(self) -> GalleryScores:
        """Scores of the validation part with the present weights."""
        return score_gallery(self.model, self.store, self.val, self.device)

    def recall(self, scores: GalleryScores) -> dict[str, float]:
        """T2V R@1 in percent by level, and of the fusion."""
        matrices = dict(zip(self.model.level_names, scores.levels_LQV, strict=True))
        matrices[LATE_FUSION] = scores.fused_QV
        answers = self.val.video_of_query
        return {name: t2v_ranks(m, answers).recall(1).expected for name, m in matrices.items()}

    def _epoch(self) -> dict[str, float]:
        """Every caption once, in a new order; returns mean losses by level and of the fusion."""
        self.model.train()
        history = []
        for batch in self._batches():
            losses, regret = self._losses(batch)
            history.append(losses.detach())
            total = losses[-1] + self.settings.level_loss * losses[:-1].sum()
            if regret is not None:
                total = total + self.completion.weight * regret
            self.optimiser.zero_grad()
            torch.autograd.backward(total)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
            self.optimiser.step()
            self.schedule.step()
        means = torch.stack(history).mean(dim=0).tolist()
        if not all(map(math.isfinite, means)):
            raise M2hfError(
                "training diverged: the loss is no longer a number; lower fuse.train.lr"
            )
        return dict(zip((*self.model.level_names, LATE_FUSION), means, strict=True))

    def _batches(self) -> Iterator[list[Caption]]:
        size = self.settings.batch_size
        order = self.order.permutation(len(self.captions))
        for start in range(0, len(order), size):
            yield [self.captions[i] for i in order[start : start + size]]

    def _losses(self, batch: Sequence[Caption]) -> tuple[Tensor, Tensor | None]:
        """(L + 1,) losses of the levels and, last, of the fusion; and of completion."""
        place = {video: i for i, video in enumerate(dict.fromkeys(c.video for c in batch))}
        answers = np.array([place[caption.video] for caption in batch])
        (positives_QB,) = self._tensors(answers[:, None] == np.arange(len(place)))
        rows = self.model.scorer.query_rows
        captions = caption_tokens(self.store, [c.id for c in batch], rows, self.device)
        videos = self.model.encode_videos(video_tokens(self.store, list(place), self.device))
        scores = self.model.score(self.model.encode_queries(captions), videos)
        contrast = self.model.contrast
        levels = [
            contrast(level_QB, positives_QB, valid_B)
            for level_QB, valid_B in zip(scores.levels, scores.valid, strict=True)
        ]
        fused = contrast(scores.fused, positives_QB, scores.valid.any(dim=0))
        return torch.stack([*levels, fused]), completion_regret(videos.levels)

    @torch.no_grad()
    def _loss(self, scores: GalleryScores) -> float:
        """Contrastive loss of the fusion over the validation part."""
        asked = scores.asked_Q
        known_V = np.any(scores.valid_LV, axis=0)
        tensors = self._tensors(scores.fused_QV[asked], self.val.positives_QV[asked], known_V)
        return float(self.model.contrast(*tensors))

    def _tensors(self, *arrays: NDArray[Any]) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array).to(self.device) for array in arrays)
