"""The provenance chain of a similarity file as plain data, and its comparison with files on disk.

A chain goes from a number to the similarity file, the checkpoint, the shards with their configs
and weights, the manifest and the fusion config. It holds digests, never paths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2hf.errors import UsageError
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.run_folder import RunFolder, similarity_of
from m2hf.fuse.scores.baselines import ZERO_SHOT, level_of
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.keys import sha256_file
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest


def chain_of(path: Path, file: SimilarityFile) -> dict[str, Any]:
    """The chain of the similarity file `file`, read from `path`."""
    return {
        "similarity": sha256_file(path),
        "dataset": file.dataset,
        "split": file.split,
        "checkpoint": file.checkpoint,
        "trained_on": file.trained_on,
        "manifest": file.manifest,
        "streams": dict(file.streams),
        "config": dict(file.config),
    }


def streams_read(config: Mapping[str, Any], scoring: str) -> set[str] | None:
    """Roles of the streams that a level or baseline reads; None for all (late fusion)."""
    if scoring == ZERO_SHOT:
        return {CAPTIONS, FRAMES}
    levels = config.get("levels", {})
    level = levels.get(scoring) or levels.get(level_of(scoring))
    if level is None:
        return None
    query = level.get("query", CAPTIONS)
    return {query, level["stream"], *([] if level["fusion"] in ("none", "words") else [FRAMES])}


@dataclass(frozen=True)
class TraceFiles:
    """Files to compare with a chain: folders of runs or their similarity files, a store, a
    manifest; each is optional."""

    runs: Sequence[Path] = ()
    store: Path | None = None
    manifest: Path | None = None

    def check(self, chain: Mapping[str, Any]) -> dict[str, bool]:
        """For each of these files that the chain names: whether it is equal to the byte.

        Raises UsageError for a run's folder without its files, and what `Manifest.load` raises.
        """
        same = {}
        if self.runs:
            same["similarity"] = chain["similarity"] in map(_sha256, map(similarity_of, self.runs))
        if folders := [run for run in self.runs if not run.is_file()]:
            paths = [RunFolder(run).checkpoint for run in folders]
            same["checkpoint"] = chain["checkpoint"] in map(_sha256, paths)
        if self.manifest is not None:
            same["manifest"] = Manifest.load(self.manifest).digest == chain["manifest"]
        if self.store is not None:
            layout = StoreLayout(self.store, chain["dataset"])
            for role, stream in chain["streams"].items():
                same[role] = layout.digest(stream["stream"]) == stream["shards"]
        return same


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"--run {path.parent}: no {path.name} there; give the folder of a run")
    return sha256_file(path)
