"""AdamW for fusion heads, and the learning rate over a run."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from m2hf.fuse.config import TrainConfig


def adamw(
    model: nn.Module, settings: TrainConfig, more_scalars: Iterable[nn.Parameter] = ()
) -> torch.optim.AdamW:
    """AdamW with three parameter groups: matrices have weight decay; vectors (biases, norms) have
    none; the scalars of late fusion and temperatures have none and a larger learning rate."""
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    scalars: list[nn.Parameter] = list(more_scalars)
    for name, parameter in model.named_parameters():
        if name.startswith(("late_fusions.", "contrast.", "own_temperature.")):
            scalars.append(parameter)
        else:
            (matrices if parameter.ndim > 1 else vectors).append(parameter)
    scalar_lr = settings.lr * settings.scalar_lr_factor
    groups = (
        (matrices, settings.lr, settings.weight_decay),
        (vectors, settings.lr, 0.0),
        (scalars, scalar_lr, 0.0),
    )
    return torch.optim.AdamW(
        [
            {"params": params, "lr": lr, "initial_lr": lr, "weight_decay": decay}
            for params, lr, decay in groups
        ]
    )


def warm_cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at `step` of `steps`: linear warm-up over the first `warmup` of
    them (a share of 0 to 1), then half a cosine down to nearly 0."""
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise))) / 2
