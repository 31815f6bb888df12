"""The runs of a sweep: a cell with a seed, its config, and the folder that is its own.

A run is known by a key, the digest of its config, the manifest and the fingerprints of its streams;
its folder's name ends with the key. So a run is found again whatever its cell is called, cells that
resolve to one config share a run, and what is left to do is a set difference.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2hf.config import assign, parse
from m2hf.errors import M2hfError, MismatchError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.sweep.grid_file import SEED, Cell, GridFile
from m2hf.fuse.training.run import run_key
from m2hf.keys import sha256_file
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest, Split

_KEY = 12  # hex digits of a key in the name of a folder
_NAME = 60  # characters of a cell's name in it


@dataclass(frozen=True)
class SweepRun:
    """A cell trained with one seed; key: 64 hex digits."""

    cell: str
    seed: int
    key: str
    folder: RunFolder
    config: FusionConfig

    def __str__(self) -> str:
        return f"{self.cell}, seed {self.seed}"

    def done(self, split: Split, layout: StoreLayout) -> bool:
        """Whether it is trained, and scored on `split`.

        Raises MismatchError for scores of shards that the store no longer has.
        """
        path = self.folder.similarity
        if not self.folder.finished or not path.is_file():
            return False
        try:
            file = SimilarityFile.read(path)
        except M2hfError:  # damaged: scored again
            return False
        if (file.split, file.checkpoint) != (split, sha256_file(self.folder.checkpoint)):
            return False
        for role, stream in file.streams.items():
            if layout.digest(stream["stream"]) != stream["shards"]:
                raise MismatchError(
                    f"{path}: scored over other shards of stream {role} than {layout.folder} has "
                    "now; give the store as it was, or another --out"
                )
        return True


@dataclass(frozen=True)
class SweepPlan:
    """runs: by cell, in the order of the grid; impossible: why a cell can't be run, by its name."""

    runs: Mapping[str, Sequence[SweepRun]]
    impossible: Mapping[str, str]

    def unique(self) -> Iterator[SweepRun]:
        """Every run once, though several cells may share it."""
        found: dict[str, SweepRun] = {}
        for runs in self.runs.values():
            for run in runs:
                found.setdefault(run.key, run)
        yield from found.values()


def plan(
    grid: GridFile, recipe: Mapping[str, Any], manifest: Manifest, store: Path, out: Path
) -> SweepPlan:
    """The runs of `grid` over the streams in `store`. recipe: the whole recipe as plain data, which
    the settings of a cell go on top of; out: the folder of the sweep.

    Nothing is written. Raises ConfigError for a recipe that is wrong without any cell.
    """
    parse(FusionConfig, recipe.get("fuse", {}))
    runs: dict[str, list[SweepRun]] = {}
    impossible: dict[str, str] = {}
    folders = {path.name[-_KEY:]: path for path in sorted(out.glob("runs/*"))}
    for cell in grid.all():
        try:
            configs = [_config(recipe, cell, seed) for seed in grid.seeds]
            features = FeatureStore.open(store, manifest.card.name, configs[0])
        except M2hfError as error:
            impossible[cell.name] = str(error)
            continue
        runs[cell.name] = []
        for seed, config in zip(grid.seeds, configs, strict=True):
            key = run_key(manifest, features, config)
            own = out / "runs" / f"{_folder_name(cell.name)}-seed{seed}-{key[:_KEY]}"
            folder = RunFolder(folders.setdefault(key[:_KEY], own))
            runs[cell.name].append(SweepRun(cell.name, seed, key, folder, config))
    return SweepPlan(runs, impossible)


def _config(recipe: Mapping[str, Any], cell: Cell, seed: int) -> FusionConfig:
    data = {"fuse": copy.deepcopy(dict(recipe.get("fuse", {})))}
    for key, value in {**cell.settings, SEED: seed}.items():
        assign(data, key, copy.deepcopy(value), key)
    return parse(FusionConfig, data["fuse"], "fuse")


def _folder_name(cell: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", cell).strip("-.")[:_NAME] or "cell"
