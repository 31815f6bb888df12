"""A stage of training: one network trained from start to stop, as a value that saves itself.

End to end there is one stage with all levels; an ensemble has a stage a level. A resumed stage
ends with the same weights to the bit as one that was never interrupted (same device and seed).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from m2hf.fuse.config import FusionConfig
from m2hf.fuse.model.retriever import M2HF
from m2hf.fuse.training.average import WeightAverage
from m2hf.fuse.training.balance import Balance
from m2hf.fuse.training.optimiser import adamw

_SECTIONS = ("model", "average", "balance", "best", "optimiser", "random")

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Best:
    """The best epoch so far on the validation part: its number, (R@1 + R@5 + R@10, -loss) by which
    epochs are compared, since R@1 of a few hundred queries is noise, and its weights."""

    epoch: int = 0
    result: tuple[float, float] = (-math.inf, -math.inf)
    weights: Tensors = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StageState:
    """A stage as it is saved: tensors by section and name, and numbers that JSON can hold."""

    tensors: Mapping[str, Tensors]
    numbers: Mapping[str, Any]

    @property
    def level(self) -> str:
        """The level of the stage; "" end to end."""
        return str(self.numbers["level"])


@dataclass(frozen=True)
class StageEpochs:
    """How many epochs a stage was trained for, and the best of them, which was kept."""

    trained: int
    best: int


@dataclass(frozen=True, eq=False)
class StageResult:
    """What a stage that stopped leaves: the weights of its best epoch."""

    weights: Tensors
    epochs: StageEpochs

    @classmethod
    def of(cls, weights: Tensors, trained: int, best: int) -> Self:
        return cls(weights, StageEpochs(trained, best))


class Stage:
    """One network in training, with its mean over the steps, which is validated and kept, its
    optimiser, its RNG and its best epoch so far.

    epoch: the last one that was validated, -1 before the first; step: of the optimiser.
    """

    def __init__(
        self, config: FusionConfig, widths: Mapping[str, int], device: torch.device, level: str
    ) -> None:
        """widths: columns of each role's stream; level: the one trained alone, "" for all end
        to end. Seeds torch's RNG, so that a level is trained alike with or without others."""
        torch.manual_seed(config.train.seed)
        self.level = level
        self.config = config.only(*([level] if level else config.trained_levels))
        self.model = M2HF(self.config, widths).to(device)
        self.average = WeightAverage(self.model, config.train.average)
        self.balance = Balance(len(self.model.level_names), config.balance).to(device)
        self.optimiser = adamw(self.model, config.train, self.balance.parameters())
        self.order = np.random.default_rng(config.train.seed)
        self.epoch, self.step, self.best = -1, 0, Best()

    @property
    def done(self) -> bool:
        """Whether epochs or patience are used up."""
        settings = self.config.train
        stale = self.epoch - self.best.epoch >= settings.patience
        return self.epoch >= settings.epochs or (self.epoch >= 0 and stale)

    @property
    def result(self) -> StageResult:
        """The best weights so far."""
        return StageResult.of(self.best.weights, max(0, self.epoch), self.best.epoch)

    def validated(self, recall_sum: float, loss: float) -> bool:
        """Record the validation result of the present epoch; keeps a copy of the mean weights and
        returns True where it is the best so far."""
        better = (recall_sum, -loss) > self.best.result
        if better:
            weights = {
                name: value.clone() for name, value in self.average.network.state_dict().items()
            }
            self.best = Best(self.epoch, (recall_sum, -loss), weights)
        return better

    def set_learning_rate(self, share: float) -> None:
        """share: of the configured rate of each parameter group."""
        for group in self.optimiser.param_groups:
            group["lr"] = share * group["initial_lr"]

    def state(self) -> StageState:
        """All that the rest of the stage depends on."""
        sections = (
            self.model.state_dict(),
            self.average.state_dict(),
            self.balance.state_dict(),
            self.best.weights,
            _optimiser_tensors(self.optimiser),
            _rng_tensors(self._device),
        )
        numbers = {
            "level": self.level,
            "epoch": self.epoch,
            "step": self.step,
            "best_epoch": self.best.epoch,
            "best_result": list(self.best.result),
            "order": self.order.bit_generator.state,
        }
        return StageState(dict(zip(_SECTIONS, sections, strict=True)), numbers)

    def restore(self, state: StageState) -> None:
        """Continue from what `state` returned; sets torch's RNG, too."""
        sections = (state.tensors.get(name, {}) for name in _SECTIONS)
        model, average, balance, best, optimiser, rng = sections
        numbers = state.numbers
        self.model.load_state_dict(model)
        self.average.load_state_dict(average)
        self.balance.load_state_dict(balance)
        recall_sum, negative_loss = numbers["best_result"]
        self.best = Best(numbers["best_epoch"], (recall_sum, negative_loss), best)
        _restore_optimiser(self.optimiser, optimiser)
        _restore_rng(rng, self._device)
        self.epoch, self.step = numbers["epoch"], numbers["step"]
        self.order.bit_generator.state = numbers["order"]

    @property
    def _device(self) -> torch.device:
        return self.model.late.bias_L.device


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of `optimiser` as `<parameter>.<name>`."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": t for index, kept in state.items() for name, t in kept.items()}


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Inverse of `_optimiser_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _rng_tensors(device: torch.device) -> dict[str, Tensor]:
    """State of torch's RNG on the CPU and on `device`."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _restore_rng(tensors: Tensors, device: torch.device) -> None:
    """Inverse of `_rng_tensors`."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["cuda"], device)
