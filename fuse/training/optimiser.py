"""AdamW for fusion heads, and the learning rate over a run."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from m2hf.fuse.config import TrainConfig


def adamw(
    model: nn.Module, settings: TrainConfig, more_scalars: Iterable[nn.Parameter] = ()
) -> torch.optim.AdamW:
    """AdamW in three groups: matrices decay; vectors (biases, norms) don't; the scalars of
    fusion and temperature, which have far to go, don't either and take larger steps."""
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    scalars: list[nn.Parameter] = list(more_scalars)
    for name, parameter in model.named_parameters():
        if name.startswith(("late.", "contrast.")):
            scalars.append(parameter)
        else:
            (matrices if parameter.ndim > 1 else vectors).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": matrices, "lr": settings.lr, "weight_decay": settings.weight_decay},
            {"params": vectors, "lr": settings.lr, "weight_decay": 0.0},
            {
                "params": scalars,
                "lr": settings.lr * settings.scalar_lr_factor,
                "weight_decay": 0.0,
            },
        ]
    )


def warm_cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at `step` of `steps`: a straight rise over the first `warmup`
    of them, then half a cosine down to nearly nothing."""
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise))) / 2
