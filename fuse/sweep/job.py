"""One run of a sweep as a line of text, for any process to do: train, then score.

The answer is a line, too: what went wrong, and whether that ends the sweep.
"""

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from m2hf.errors import M2hfError, ResourceError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.evaluation.zero_shot import write_untrained
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.training.run import train
from m2hf.fuse.training.trainer import Diverged
from m2hf.keys import canonical_json
from m2hf.manifest import Manifest, Split
from m2hf.shortage import resource_error

_ONE = threading.Lock()  # at a time: torch's random numbers and switches belong to the process


@dataclass(frozen=True)
class SweepJob:
    """manifest, store, run: folders; config: of the run, as plain data."""

    manifest: str
    store: str
    run: str
    config: dict[str, Any]
    split: Split

    def line(self) -> str:
        """The job as a line of JSON."""
        return canonical_json(asdict(self))

    def do(self) -> None:
        """Train, or resume, unless that is done; then score.

        Raises what `train` and `evaluate` raise. A run that diverges leaves no checkpoint.
        """
        manifest, store = Manifest.load(Path(self.manifest)), Path(self.store)
        config, folder = FusionConfig.model_validate(self.config), RunFolder(Path(self.run))
        if config.strategy == "zero_shot":
            write_untrained(manifest, store, folder.root, config)
        elif not folder.finished:
            try:
                train(manifest, store, folder.root, config)
            except Diverged:
                folder.checkpoint.unlink(missing_ok=True)
                raise
        evaluate(manifest, store, folder.root, None, self.split, with_baselines=True)


@dataclass(frozen=True)
class Answer:
    """error: one line, "" for a run that is done; ends: whether no other run could succeed."""

    error: str = ""
    ends: bool = False

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line of `answer`; raises ValueError or TypeError for another."""
        return cls(**json.loads(line))


def answer(line: str) -> str:
    """Do the job of `line`; returns an Answer as a line. An exception that is a bug is raised."""
    try:
        with _ONE:
            SweepJob(**json.loads(line)).do()
        found = Answer()
    except Exception as error:
        own = error if isinstance(error, M2hfError) else resource_error(error, "sweep")
        if own is None:
            raise
        found = Answer(str(own), isinstance(own, ResourceError))
    return canonical_json(asdict(found))
