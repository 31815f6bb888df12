"""A run in progress, in one safetensors file: what a killed run goes on from.

Tensors of the model, of its best weights so far, of the optimiser and of the random state; the
rest as one JSON text in the metadata. No pickle. It is written after each epoch, atomically,
and removed when the run is complete.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from m2hf.atomic import atomic_write
from m2hf.errors import MismatchError, UsageError
from m2hf.keys import canonical_json

FILE_NAME = "last.safetensors"

_KEY = "m2hf.progress"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Progress:
    """tensors by name, and facts that JSON can hold."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def save(self, path: Path, run: str) -> None:
        """Write atomically; run: digest of what makes two runs the same."""
        about = canonical_json({"version": _VERSION, "run": run, "facts": self.facts})
        # Cloned: safetensors refuses tensors that share memory.
        tensors = {name: value.detach().cpu().clone() for name, value in self.tensors.items()}
        with atomic_write(path) as temporary:
            safetensors.torch.save_file(tensors, temporary, metadata={_KEY: about})

    @classmethod
    def load(cls, path: Path, run: str) -> "Progress | None":
        """None where there is no run in progress; raises MismatchError where it is another."""
        if not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, framework="np") as file:
                about = json.loads((file.metadata() or {})[_KEY])
            tensors = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError, KeyError) as error:
            raise UsageError(f"{path}: damaged ({error}); delete it to train anew") from error
        if (about["version"], about["run"]) != (_VERSION, run):
            raise MismatchError(
                f"{path}: a run in progress with another config, manifest or features; "
                "give those to go on with it, name another run, or delete the file"
            )
        return cls(tensors, about["facts"])

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name begins with `prefix`, by the rest of it."""
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under longer names."""
    return {prefix + name: value for name, value in tensors.items()}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of `optimiser`, `<parameter>.<name>`."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": t for index, kept in state.items() for name, t in kept.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The state that `optimiser_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """torch's random state on the CPU and on `device`."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random(tensors: dict[str, Tensor], device: torch.device) -> None:
    """The state that `random_tensors` gave."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["cuda"], device)
