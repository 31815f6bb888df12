"""What one epoch of training gives: losses, validation results, and the line that is logged.

L levels, S steps of an epoch.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from m2hf.fuse.level_table import LATE_FUSION


@dataclass(frozen=True)
class EpochReport:
    """One epoch of one stage.

    Epoch 0 is the model before any step: its visual level is zero-shot (or ridge, where frames
    are projected), and it has no training losses.
    """

    epoch: int
    epochs: int
    """The most that this stage is trained for."""
    loss: dict[str, float]
    """Mean training loss by level, and of the late fusion."""
    val_loss: float
    val_recall: dict[str, float]
    """T2V R@1 in percent by level, and of the late fusion."""
    best: bool
    """Whether it is the best epoch so far."""
    stage: str = ""
    """The level that an ensemble trains; "" end to end."""
    share: dict[str, float] = field(default_factory=dict)
    """Of each level in the score of the query's own video."""
    gradient: dict[str, float] = field(default_factory=dict)
    """Norm of the loss's gradient with respect to each level's scores."""
    captions_per_s: float = 0.0
    """Training speed; 0 at epoch 0, and not logged, so that equal runs give equal logs."""

    @property
    def line(self) -> str:
        """The line of metrics.jsonl."""
        return json.dumps({k: v for k, v in asdict(self).items() if k != "captions_per_s"}) + "\n"


OnEpoch = Callable[[EpochReport], None]


@dataclass(frozen=True, eq=False)
class StepStatistics:
    """One step: losses (L + 1,), late fusion last; seen (L,) bool, whether the batch had samples
    of the level; share and gradient norm (L,)."""

    losses: Tensor
    seen: Tensor
    share: Tensor
    gradient: Tensor


@dataclass(frozen=True, eq=False)
class EpochMeans:
    """Means over the steps of an epoch, by level; empty without a step."""

    loss: dict[str, float] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)
    gradient: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, steps: Sequence[StepStatistics], levels: Sequence[str]) -> "EpochMeans":
        """Means over the steps in which a level had samples; 0 for a level that never had."""
        if not steps:
            return cls()
        seen_SL = torch.stack([step.seen for step in steps])
        count_L = seen_SL.sum(dim=0).clamp(min=1)

        def by_level(column: str) -> dict[str, float]:
            values_SL = torch.stack([getattr(step, column)[: len(levels)] for step in steps])
            means_L = torch.where(seen_SL, values_SL, 0.0).sum(dim=0) / count_L
            return dict(zip(levels, means_L.tolist(), strict=True))

        fused = float(torch.stack([step.losses[-1] for step in steps]).mean())
        loss = by_level("losses") | {LATE_FUSION: fused}
        return cls(loss, by_level("share"), by_level("gradient"))


def mean_losses(steps: Sequence[StepStatistics]) -> Tensor:
    """(L,) mean loss of each level over the steps that had samples of it; 0 without any."""
    losses = torch.stack([step.losses for step in steps])
    seen_SL = torch.stack([step.seen for step in steps])
    mean_L: Tensor = losses[:, :-1].sum(dim=0) / seen_SL.sum(dim=0).clamp(min=1)
    return mean_L
