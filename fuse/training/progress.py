"""An unfinished run in one safetensors file, from which training resumes.

It holds the state of the stage in training and the results of finished stages: tensors as
`stage/<section>/<name>` and `finished/<level>/<name>`, all else as one JSON text in the metadata.
No pickle. It is written atomically after each epoch and removed when the run is complete.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import safetensors
import safetensors.torch
from torch import Tensor

from m2hf.atomic import atomic_write, raise_if_unreadable
from m2hf.errors import MismatchError, UsageError
from m2hf.fuse.training.stage import StageResult, StageState
from m2hf.keys import canonical_json

_KEY = "m2hf.progress"
_VERSION = 2
_STAGE, _FINISHED = "stage", "finished"


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
        with atomic_write(path) as temporary:
            safetensors.torch.save_file(
                # Cloned: safetensors refuses tensors that share memory.
                {name: value.detach().cpu().clone() for name, value in tensors.items()},
                temporary,
                metadata={_KEY: canonical_json(about)},
            )

    @classmethod
    def load(cls, path: Path, run: str) -> Self | None:
        """The unfinished run at `path`, None where there is none.

        Raises UsageError for a damaged file, MismatchError for one of another version or run.
        """
        if not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, framework="np") as file:
                about = json.loads((file.metadata() or {})[_KEY])
            tensors = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError, KeyError) as error:
            raise_if_unreadable(path, error)
            raise UsageError(f"{path}: damaged ({error}); delete it to train anew") from error
        if about["version"] != _VERSION:
            raise MismatchError(
                f"{path}: an interrupted run of schema version {about['version']}, this m2hf "
                f"resumes version {_VERSION}; delete the file to train anew"
            )
        if about["run"] != run:
            raise MismatchError(
                f"{path}: an interrupted run with another config, manifest or features; "
                "give those to resume it, name another run, or delete the file"
            )
        weights = _nested(tensors, _FINISHED)
        finished = {
            name: StageResult.of(weights.get(name, {}), **epochs)
            for name, epochs in about["finished"].items()
        }
        return cls(StageState(_nested(tensors, _STAGE), about["stage"]), finished, about["log"])


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
