"""Advances a stage of training by epochs.

loss = NCE(fused) + lambda sum_l NCE(level l), balanced, plus completion; a stage with one level
has the NCE of that level only (design 6; our reading). The best epoch is chosen on a validation
part.

L levels, Q captions and B videos of a batch.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2hf.errors import M2hfError
from m2hf.fuse.distributed import ProcessGroup
from m2hf.fuse.evaluation.score import GalleryScores, score_gallery
from m2hf.fuse.features.gallery import Gallery
from m2hf.fuse.features.statistics import (
    ColumnStatistics,
    column_statistics,
    sentence_statistics,
)
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import LATE_FUSION
from m2hf.fuse.model.retriever import M2HF, Retriever
from m2hf.fuse.scores.late_rules import TRAINED, Calibration
from m2hf.fuse.scores.metrics import t2v_ranks, text_to_video
from m2hf.fuse.scores.pooled import PooledSplit
from m2hf.fuse.scores.ridge import Regressions
from m2hf.fuse.training.balance import PairLosses, contributions, scale_gradients
from m2hf.fuse.training.batch import ScoredBatch, kept_levels
from m2hf.fuse.training.epoch import EpochMeans, EpochReport, StepStatistics, mean_losses
from m2hf.fuse.training.optimiser import warm_cosine
from m2hf.fuse.training.stage import Stage
from m2hf.fuse.training.start import start_at_ridge, starts_at_ridge
from m2hf.fuse.training.validation_loss import BLOCK_CELLS, gallery_loss
from m2hf.manifest import Caption


class Diverged(M2hfError):
    """A loss is not finite."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Features, the captions that are trained on, and the gallery of the validation part."""

    store: FeatureStore
    captions: Sequence[Caption]
    val: Gallery

    @property
    def widths(self) -> dict[str, int]:
        """Columns of each role's stream."""
        return {role: info.width for role, info in self.store.info.items()}

    @cached_property
    def train(self) -> Gallery:
        """The captions that are trained on, and their videos."""
        return Gallery.of_captions(self.captions)

    def statistics(self, role: str) -> ColumnStatistics:
        """Of a role's stream over the training captions or their videos; computed once."""
        if role not in self._statistics:
            self._statistics[role] = (
                sentence_statistics(self.store[role], self.train.query_ids)
                if role in self.store.query_roles
                else column_statistics(self.store[role], self.train.video_ids)
            )
        return self._statistics[role]

    @cached_property
    def _statistics(self) -> dict[str, ColumnStatistics]:
        return {}

    @cached_property
    def regressions(self) -> Regressions:
        """Ridge regressions of the training part, chosen on the validation part."""
        parts = (PooledSplit.of(gallery, self.store) for gallery in (self.train, self.val))
        return Regressions(*parts)


@dataclass(frozen=True)
class Trainer:
    """Trains stages on `data`, in the processes of `group`."""

    data: TrainingData
    group: ProcessGroup

    def advance(self, stage: Stage) -> EpochReport:
        """Train the next epoch and validate it; the first call validates only.

        Raises Diverged where a loss is not finite; `stage` keeps its best weights.
        """
        if stage.epoch < 0:
            stage.model.standardise(self.data.statistics)
            if starts_at_ridge(stage.config):
                start_at_ridge(stage.model, self.data.regressions)
            start = self.validate(stage.model)
            stage.model.late.standardise(*self._tensors(start.levels_LQV, start.valid_LV))
        self.group.broadcast(stage.model.state_dict().values())
        if stage.epoch < 0:
            stage.average.update_parameters(stage.model)
        self.group.broadcast(stage.average.network.state_dict().values())
        began, steps = time.perf_counter(), self._epoch(stage) if stage.epoch >= 0 else []
        seconds = time.perf_counter() - began
        stage.epoch += 1
        network = stage.average.network
        scores = self.validate(network)
        _check_finite(stage, torch.from_numpy(scores.levels_LQV).sum(dim=(1, 2)))
        recall = recall_by_level(network, scores, self.data.val)
        # Process 0 decides when to stop, since rounding may differ between processes.
        fused = text_to_video(scores.fused_QV, self.data.val.video_of_query)
        judged = fused.recall_sum, self._loss(stage, scores)
        *found, recall_sum, loss = self.group.broadcast_numbers([*recall.values(), *judged])
        recall = dict(zip(recall, found, strict=True))
        best = stage.validated(recall_sum, loss)
        return EpochReport(
            stage.epoch,
            stage.config.train.epochs,
            val_loss=loss,
            val_recall=recall,
            best=best,
            stage=stage.level,
            captions_per_s=len(self.data.captions) / seconds if steps else 0.0,
            **asdict(EpochMeans.of(steps, stage.model.level_names)),
        )

    def validate(self, model: M2HF) -> GalleryScores:
        """Scores of the validation part with the present weights."""
        statistics = None if model.late_rule in TRAINED else Calibration.of
        return score_gallery(model, self.data.store, self.data.val, self.group.device, statistics)

    def _epoch(self, stage: Stage) -> list[StepStatistics]:
        """One step a batch, over all captions in a new order."""
        stage.model.train()
        self.group.seed(stage.config.train.seed, stage.epoch)
        steps = [self._train(stage, batch) for batch in self._batches(stage)]
        stage.balance.end_epoch(mean_losses(steps))
        return steps

    def _batches(self, stage: Stage) -> Iterator[list[Caption]]:
        size, captions = stage.config.train.batch_size, self.data.captions
        order = stage.order.permutation(len(captions))
        for start in range(0, len(order), size):
            yield [captions[i] for i in order[start : start + size]]

    def _train(self, stage: Stage, batch: Sequence[Caption]) -> StepStatistics:
        """One step of the optimiser."""
        model, settings = stage.model, stage.config.train
        scored = ScoredBatch.of(model, self.data.store, batch, self.group)
        scores, positives_QB = scored.scores, scored.positives
        scores.levels.retain_grad()
        contrast, late, available_B = model.contrast, model.late, scores.valid.any(dim=0)
        logits_LQB = model.scale_L[:, None, None] * scores.levels
        pairs = PairLosses.of(logits_LQB, scores.valid, positives_QB)
        losses_L = pairs.mean_L
        fused = late.loss(self._fused(stage, scored), positives_QB, available_B, contrast)
        scale = late.scale(contrast)
        parts = contributions(scores.levels, scores.valid, positives_QB, late, scale)
        losses = torch.cat([losses_L, fused[None]]).detach()
        stage.step += 1
        _check_finite(stage, losses)
        total = (
            losses_L.sum()
            if stage.level
            else fused + stage.balance(pairs, parts, settings.level_loss)
        )
        if scored.completion_loss is not None:
            total = total + stage.config.completion.weight * scored.completion_loss
        stage.optimiser.zero_grad()
        torch.autograd.backward(total)
        if stage.config.balance.form == "gradient":
            scales_L = stage.balance.gradient_scales(parts)
            scale_gradients(model, stage.config.active_levels, scales_L)
        groups = stage.optimiser.param_groups
        self.group.average_gradients(p for group in groups for p in group["params"])
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        stage.set_learning_rate(warm_cosine(stage.step - 1, self._steps(stage), settings.warmup))
        stage.optimiser.step()
        stage.average.update_parameters(model)
        gradient = scores.levels.grad
        norm_L = torch.zeros_like(losses_L) if gradient is None else gradient.flatten(1).norm(dim=1)
        return StepStatistics(losses, pairs.seen_L, parts.mean_share.detach(), norm_L.detach())

    def _fused(self, stage: Stage, scored: ScoredBatch) -> Tensor:
        """(Q, B) fused scores of a batch, without the levels that are dropped for each caption;
        undefined for a video that is valid in no level."""
        dropout, scores, late = stage.config.train.level_dropout, scored.scores, stage.model.late
        if stage.level or not dropout:
            whole_QB: Tensor = late(scores.levels, scores.valid)
            return whole_QB
        # From the generator of the stage, so that all processes drop the same.
        drawn = stage.order.random(scores.levels.shape[:2], dtype=np.float32)
        drawn_LQ = torch.from_numpy(drawn).to(self.group.device)
        kept_LQ = kept_levels(drawn_LQ, dropout, scores.valid, scored.positives)
        fused_QB: Tensor = late(scores.levels, scores.valid, kept_LQ)
        return fused_QB

    def _steps(self, stage: Stage) -> int:
        """Steps of the whole stage."""
        settings = stage.config.train
        return settings.epochs * math.ceil(len(self.data.captions) / settings.batch_size)

    @torch.no_grad()
    def _loss(self, stage: Stage, scores: GalleryScores) -> float:
        """Contrastive loss over the validation part: of the trained late fusion whatever the rule,
        or of the level that is trained alone."""
        network = stage.average.network
        contrast, late = network.contrast, network.late
        available = np.flatnonzero(scores.valid_LV.any(axis=0))
        queries = np.flatnonzero(scores.present_Q)

        def blocks() -> Iterator[tuple[Tensor, Tensor]]:
            size = max(1, BLOCK_CELLS // max(1, scores.valid_LV.size))
            for start in range(0, len(queries), size):
                rows = queries[start : start + size]
                own_q1 = self.data.val.video_of_query[rows][:, None]
                levels_LqV, valid_LV, positives_qV = self._tensors(
                    np.ascontiguousarray(scores.levels_LQV[:, rows[:, None], available]),
                    scores.valid_LV[:, available],
                    own_q1 == available,
                )
                if stage.level:
                    yield contrast.scale * levels_LqV[0], positives_qV
                else:
                    yield late.scale(contrast) * late(levels_LqV, valid_LV), positives_qV

        return gallery_loss(blocks())

    def _tensors(self, *arrays: NDArray[Any]) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array).to(self.group.device) for array in arrays)


def _check_finite(stage: Stage, losses: Tensor) -> None:
    """Raises Diverged naming the first level, or the late fusion, whose loss is not finite."""
    broken = ~losses.isfinite()
    if broken.any():
        names = [*stage.model.level_names, LATE_FUSION]
        which = names[int(broken.int().argmax())]
        raise Diverged(
            f"training diverged at step {stage.step}, level {which}: "
            "its loss is not finite; lower fuse.train.lr"
        )


def recall_by_level(model: Retriever, scores: GalleryScores, val: Gallery) -> dict[str, float]:
    """T2V R@1 in percent by level, and of the late fusion."""
    matrices = dict(zip(model.level_names, scores.levels_LQV, strict=True))
    matrices[LATE_FUSION] = scores.fused_QV
    truth = val.video_of_query
    return {name: t2v_ranks(m, truth).recall(1).expected for name, m in matrices.items()}
