"""An unfinished run in one safetensors file, from which training resumes.

It holds the state of the stage in training and the results of finished stages: tensors as
`stage/<section>/<name>` and `finished/<level>/<name>`, all else as one JSON text in the metadata,
with a digest of everything, since training must not resume from a damaged state. No pickle. It is
written atomically after each epoch and removed when the run is complete.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import Field, field_validator
from torch import Tensor

from m2hf.atomic import atomic_write, raise_if_unreadable
from m2hf.config import Section, parse
from m2hf.errors import MismatchError, UsageError, first_line
from m2hf.fuse.training.stage import Stage, StageResult, StageState
from m2hf.keys import canonical_json
from m2hf.plain_data import json_object, shown

_KEY = "m2hf.progress"
_VERSION = 4
_STAGE, _FINISHED = "stage", "finished"


class _Numbers(Section):
    """`StageState.numbers` as they are stored."""

    level: str
    epoch: int = Field(ge=-1, strict=True)
    step: int = Field(ge=0, strict=True)
    best_epoch: int = Field(ge=0, strict=True)
    best_result: tuple[float, float]
    order: dict[str, Any]

    @field_validator("order")
    @classmethod
    def _generator_state(cls, state: dict[str, Any]) -> dict[str, Any]:
        try:
            np.random.default_rng(0).bit_generator.state = state
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a state of numpy's generator ({error})") from error
        return state


class _Epochs(Section):
    """`StageEpochs` as they are stored."""

    trained: int = Field(ge=0, strict=True)
    best: int = Field(ge=0, strict=True)


class _Record(Section):
    """The metadata as it is stored."""

    version: int
    run: str
    stage: _Numbers
    finished: dict[str, _Epochs]
    log: str
    digest: str


@dataclass(frozen=True, eq=False)
class Progress:
    """stage: the stage in training; finished: results by level of the stages before it;
    log: the lines of metrics.jsonl so far."""

    stage: StageState
    finished: Mapping[str, StageResult]
    log: str

    def save(self, path: Path, run: str) -> None:
        """Write atomically; run: digest of all that must be equal to resume."""
        tensors = dict(_flat(_STAGE, self.stage.tensors))
        tensors |= _flat(_FINISHED, {name: done.weights for name, done in self.finished.items()})
        about = {
            "version": _VERSION,
            "run": run,
            "stage": self.stage.numbers,
            "finished": {name: asdict(done.epochs) for name, done in self.finished.items()},
            "log": self.log,
        }
        # Cloned: safetensors refuses tensors that share memory.
        cloned = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        about["digest"] = _digest(cloned, about)
        with atomic_write(path) as temporary:
            safetensors.torch.save_file(cloned, temporary, metadata={_KEY: canonical_json(about)})

    @classmethod
    def load(cls, path: Path, run: str) -> Self | None:
        """The unfinished run at `path`, None where there is none.

        Raises UsageError for a damaged file, MismatchError for one of another version or run.
        """
        if not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, framework="np") as file:
                text = (file.metadata() or {})[_KEY]
            tensors = safetensors.torch.load_file(path)
            weights, state = _nested(tensors, _FINISHED), _nested(tensors, _STAGE)
        except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
            raise_if_unreadable(path, error)
            raise UsageError(
                f"{path}: damaged ({first_line(error)}); delete it to train anew"
            ) from error
        about = json_object(text, f"{path} (delete it to train anew)")
        if about.get("version") != _VERSION:
            raise MismatchError(
                f"{path}: an interrupted run of schema version {shown(about.get('version'))}, this "
                f"m2hf resumes version {_VERSION}; delete the file to train anew"
            )
        if about.get("run") != run:
            raise MismatchError(
                f"{path}: an interrupted run with another config, manifest or features; "
                "give those to resume it, name another run, or delete the file"
            )
        record = parse(_Record, about, f"{path} (delete it to train anew)", UsageError)
        del about["digest"]
        if record.digest != _digest(tensors, about):
            raise UsageError(f"{path}: damaged (its digest differs); delete it to train anew")
        finished = {
            name: StageResult.of(weights.get(name, {}), **dict(epochs))
            for name, epochs in record.finished.items()
        }
        return cls(StageState(state, about["stage"]), finished, record.log)

    def resume(self, stage: Stage, path: Path) -> None:
        """Continue `stage` from what was saved at `path`; raises UsageError where its tensors
        aren't those of the stage."""
        try:
            stage.restore(self.stage)
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise UsageError(
                f"{path}: its tensors are not those of the run ({first_line(error)}); delete it to "
                "train anew"
            ) from error


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """sha256 of all tensors and of the metadata without its digest."""
    sha = hashlib.sha256(canonical_json(about).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _flat(group: str, sections: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {
        f"{group}/{section}/{name}": tensor
        for section, tensors in sections.items()
        for name, tensor in tensors.items()
    }


def _nested(tensors: Mapping[str, Tensor], group: str) -> dict[str, dict[str, Tensor]]:
    """The sections that `_flat` was given."""
    sections: dict[str, dict[str, Any]] = {}
    for path, tensor in tensors.items():
        first, section, name = path.split("/", 2)
        if first == group:
            sections.setdefault(section, {})[name] = tensor
    return sections
