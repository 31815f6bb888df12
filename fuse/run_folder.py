"""The folder of one training run: which files are in it, and what each holds.

checkpoint.safetensors   the trained model (m2hf.fuse.model.checkpoint)
config.json              the resolved [fuse] config
metrics.jsonl            one line an epoch; curves.png: the same as a figure (m2hf.fuse.curves)
validation.json          R@1 of the kept weights on the validation part, by level
last.safetensors         an unfinished run, from which training resumes; removed at the end
similarity.h5            scores of a split, by `m2hf eval` (m2hf.fuse.scores.similarity_file);
                         `--out` writes others
report.html              the page of `m2hf report`
"""

from dataclasses import dataclass
from pathlib import Path


def similarity_of(run: Path) -> Path:
    """The similarity file of a run: `run` itself where it is a file, else the one of its folder."""
    return run if run.is_file() else RunFolder(run).similarity


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files of the run in `root`."""

    root: Path

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.safetensors"

    @property
    def finished(self) -> bool:
        """Whether training is complete: there is a checkpoint, and nothing to resume."""
        return self.checkpoint.is_file() and not self.progress.exists()

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def log(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def curves(self) -> Path:
        return self.root / "curves.png"

    @property
    def validation(self) -> Path:
        return self.root / "validation.json"

    @property
    def progress(self) -> Path:
        return self.root / "last.safetensors"

    @property
    def similarity(self) -> Path:
        return self.root / "similarity.h5"

    @property
    def report(self) -> Path:
        return self.root / "report.html"
