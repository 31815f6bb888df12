"""Training of one model, epoch by epoch, from the start or from where it was cut.

loss = NCE(fused) + lambda sum_l NCE(level l), balanced, plus completion; a level alone has its
own NCE only (design 6; our reading). The best epoch is chosen on a validation part.

L levels, Q captions and B videos of a batch.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2hf.errors import M2hfError
from m2hf.fuse.config import LATE_FUSION, FusionConfig
from m2hf.fuse.distributed import World
from m2hf.fuse.evaluation.score import GalleryScores, score_gallery
from m2hf.fuse.features.gallery import Gallery
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model.retriever import M2HF, Retriever
from m2hf.fuse.scores.late_rules import Calibration
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.fuse.training.balance import Balance, contributions, scale_gradients
from m2hf.fuse.training.batch import ScoredBatch
from m2hf.fuse.training.optimiser import adamw, warm_cosine
from m2hf.fuse.training.progress import (
    Progress,
    optimiser_tensors,
    prefixed,
    random_tensors,
    restore_optimiser,
    restore_random,
)
from m2hf.manifest import Caption

_WORST = (-math.inf, -math.inf)


class Diverged(M2hfError):
    """A loss is no longer a number."""


@dataclass(frozen=True)
class EpochReport:
    """One epoch: mean training losses of each level and of the fusion, validation loss, T2V R@1
    in percent by level and of the fusion, and whether it is the best so far. Epoch 0 is the
    model before any step, whose visual level is zero-shot (or chance, where frames or captions
    are projected); it has no training losses.

    stage: the level that an ensemble trains, "" end to end; share: of each level in the
    positive's score; gradient: norm of the loss's gradient in each level's scores;
    captions_per_s: in training, 0 at epoch 0, and not logged: equal runs give equal logs.
    """

    epoch: int
    epochs: int
    loss: dict[str, float]
    val_loss: float
    val_recall: dict[str, float]
    best: bool
    stage: str = ""
    share: dict[str, float] = field(default_factory=dict)
    gradient: dict[str, float] = field(default_factory=dict)
    captions_per_s: float = 0.0

    @property
    def line(self) -> str:
        """What the log holds of it."""
        return json.dumps({k: v for k, v in asdict(self).items() if k != "captions_per_s"}) + "\n"


@dataclass(frozen=True, eq=False)
class _Step:
    """losses (L + 1,), the fusion's last; seen, share and gradient norm (L,)."""

    losses: Tensor
    seen: Tensor
    share: Tensor
    gradient: Tensor


class Trainer:
    """The state of one model's training."""

    def __init__(
        self,
        store: FeatureStore,
        captions: Sequence[Caption],
        val: Gallery,
        config: FusionConfig,
        world: World,
        stage: str = "",
    ) -> None:
        """stage: the level that is trained alone; "" for all levels end to end."""
        self.store, self.captions, self.val = store, captions, val
        self.config, self.settings, self.stage = config, config.train, stage
        self.world, self.device = world, world.device
        widths = {role: info.width for role, info in store.info.items()}
        self.model = M2HF(config, widths).to(self.device)
        names = self.model.level_names
        self.balance = Balance(len(names), config.balance).to(self.device)
        self.optimiser = adamw(self.model, self.settings, self.balance.parameters())
        for group in self.optimiser.param_groups:
            group["full_lr"] = group["lr"]
        self.steps = self.settings.epochs * math.ceil(len(captions) / self.settings.batch_size)
        self.order = np.random.default_rng(self.settings.seed)
        self.epoch, self.step = -1, 0
        self.best, self.best_epoch = _WORST, 0
        self.weights: dict[str, Tensor] = {}

    @property
    def done(self) -> bool:
        """Whether epochs or patience have run out."""
        stale = self.epoch - self.best_epoch >= self.settings.patience
        return self.epoch >= self.settings.epochs or (self.epoch >= 0 and stale)

    def advance(self) -> EpochReport:
        """The next epoch; the first only validates. Raises Diverged; best weights are kept."""
        if self.epoch < 0:
            start = self.validate()
            self.model.late.standardise(*self._tensors(start.levels_LQV, start.valid_LV))
        self.world.take_first(self.model.state_dict().values())
        began, steps = time.perf_counter(), self._epoch() if self.epoch >= 0 else []
        seconds = time.perf_counter() - began
        self.epoch += 1
        scores = self.validate()
        self._check(torch.from_numpy(scores.levels_LQV).sum(dim=(1, 2)))
        recall = recall_by_level(self.model, scores, self.val)
        # One process says when to stop: rounding elsewhere must not part them.
        *found, loss = self.world.first_says([*recall.values(), self._loss(scores)])
        recall = dict(zip(recall, found, strict=True))
        if (recall[LATE_FUSION], -loss) > self.best:
            self.best, self.best_epoch = (recall[LATE_FUSION], -loss), self.epoch
            self.weights = {n: value.clone() for n, value in self.model.state_dict().items()}
        return EpochReport(
            self.epoch,
            self.settings.epochs,
            val_loss=loss,
            val_recall=recall,
            best=self.epoch == self.best_epoch,
            stage=self.stage,
            captions_per_s=len(self.captions) / seconds if steps else 0.0,
            **self._means(steps),
        )

    def validate(self) -> GalleryScores:
        """Scores of the validation part with the present weights."""
        by = None if self.model.late_rule == "affine" else Calibration.of
        return score_gallery(self.model, self.store, self.val, self.device, by)

    def progress(self) -> Progress:
        """All that the rest of the run depends on."""
        tensors = {
            **prefixed("model.", self.model.state_dict()),
            **prefixed("balance.", self.balance.state_dict()),
            **prefixed("best.", self.weights),
            **prefixed("optimiser.", optimiser_tensors(self.optimiser)),
            **prefixed("random.", random_tensors(self.device)),
        }
        facts = {
            "stage": self.stage,
            "epoch": self.epoch,
            "step": self.step,
            "best": list(self.best),
            "best_epoch": self.best_epoch,
            "order": self.order.bit_generator.state,
        }
        return Progress(tensors, facts)

    def restore(self, progress: Progress) -> None:
        """Go on from what `progress` gave."""
        facts = progress.facts
        self.model.load_state_dict(progress.under("model."))
        self.balance.load_state_dict(progress.under("balance."))
        self.weights = progress.under("best.")
        restore_optimiser(self.optimiser, progress.under("optimiser."))
        restore_random(progress.under("random."), self.device)
        self.epoch, self.step, self.best_epoch = (
            facts[name] for name in ("epoch", "step", "best_epoch")
        )
        self.best = (facts["best"][0], facts["best"][1])
        self.order.bit_generator.state = facts["order"]

    def _epoch(self) -> list[_Step]:
        """Every caption once, in a new order."""
        self.model.train()
        self.world.seed(self.settings.seed, self.epoch)
        steps = [self._train(batch) for batch in self._batches()]
        losses, seen = (torch.stack([getattr(s, n) for s in steps]) for n in ("losses", "seen"))
        self.balance.end_epoch(losses[:, :-1].sum(dim=0) / seen.sum(dim=0).clamp(min=1))
        return steps

    def _batches(self) -> Iterator[list[Caption]]:
        size = self.settings.batch_size
        order = self.order.permutation(len(self.captions))
        for start in range(0, len(order), size):
            yield [self.captions[i] for i in order[start : start + size]]

    def _train(self, batch: Sequence[Caption]) -> _Step:
        """One step of the optimiser."""
        scored = ScoredBatch.of(self.model, self.store, batch, self.world)
        scores, positives_QB = scored.scores, scored.positives
        scores.levels.retain_grad()
        contrast, known_B = self.model.contrast, scores.valid.any(dim=0)
        losses_L = torch.stack(
            [
                contrast(level_QB, positives_QB, valid_B)
                for level_QB, valid_B in zip(scores.levels, scores.valid, strict=True)
            ]
        )
        fused = contrast(scores.fused, positives_QB, known_B)
        given = contributions(
            scores.levels, scores.valid, positives_QB, self.model.late, contrast.scale
        )
        seen_L = given.known.any(dim=1)
        losses = torch.cat([losses_L, fused[None]]).detach()
        self.step += 1
        self._check(losses)
        total = (
            losses_L.sum()
            if self.stage
            else fused + self.balance(losses_L, seen_L, given, self.settings.level_loss)
        )
        if scored.regret is not None:
            total = total + self.config.completion.weight * scored.regret
        self.optimiser.zero_grad()
        torch.autograd.backward(total)
        if self.config.balance.form == "gradient":
            scales_L = self.balance.gradient_scales(given)
            scale_gradients(self.model, self.config.active_levels, scales_L)
        self.world.average(p for group in self.optimiser.param_groups for p in group["params"])
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        share = warm_cosine(self.step - 1, self.steps, self.settings.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = share * group["full_lr"]
        self.optimiser.step()
        gradient = scores.levels.grad
        norm_L = torch.zeros_like(losses_L) if gradient is None else gradient.flatten(1).norm(dim=1)
        return _Step(losses, seen_L, given.mean_share.detach(), norm_L.detach())

    def _check(self, losses: Tensor) -> None:
        """Raises Diverged naming the first level, or the fusion, whose number is none."""
        broken = ~losses.isfinite()
        if broken.any():
            names = [*self.model.level_names, LATE_FUSION]
            which = names[int(broken.int().argmax())]
            raise Diverged(
                f"training diverged at step {self.step}, level {which}: "
                "its loss is no longer a number; lower fuse.train.lr"
            )

    def _means(self, steps: Sequence[_Step]) -> dict[str, dict[str, float]]:
        """Means over the steps in which a level had samples; 0 for a level that never had."""
        if not steps:
            return {"loss": {}, "share": {}, "gradient": {}}
        names = self.model.level_names
        seen = torch.stack([step.seen for step in steps])
        count_L = seen.sum(dim=0).clamp(min=1)
        found = {}
        for name, pick in (("loss", "losses"), ("share", "share"), ("gradient", "gradient")):
            values = torch.stack([getattr(step, pick)[: len(names)] for step in steps])
            means = torch.where(seen, values, 0.0).sum(dim=0) / count_L
            found[name] = dict(zip(names, means.tolist(), strict=True))
        fused = torch.stack([step.losses[-1] for step in steps]).mean()
        found["loss"][LATE_FUSION] = float(fused)
        return found

    @torch.no_grad()
    def _loss(self, scores: GalleryScores) -> float:
        """Contrastive loss over the validation part: of the affine fusion whatever the rule, or
        of the level that is trained alone."""
        levels_LQV, valid_LV = self._tensors(scores.levels_LQV, scores.valid_LV)
        (asked_Q,) = self._tensors(scores.asked_Q)
        fused_QV = levels_LQV[0] if self.stage else self.model.late(levels_LQV, valid_LV)
        (positives_QV,) = self._tensors(self.val.positives_QV)
        known_V = valid_LV.any(dim=0)
        return float(self.model.contrast(fused_QV[asked_Q], positives_QV[asked_Q], known_V))

    def _tensors(self, *arrays: NDArray[Any]) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array).to(self.device) for array in arrays)


def recall_by_level(model: Retriever, scores: GalleryScores, val: Gallery) -> dict[str, float]:
    """T2V R@1 in percent by level, and of the fusion."""
    matrices = dict(zip(model.level_names, scores.levels_LQV, strict=True))
    matrices[LATE_FUSION] = scores.fused_QV
    answers = val.video_of_query
    return {name: t2v_ranks(m, answers).recall(1).expected for name, m in matrices.items()}


OnEpoch = Callable[[EpochReport], None]
