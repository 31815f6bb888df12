"""Import the folder into a store, and train and score every row: one after another.

A run is a manifest and a seed. Models that need no seed are solved once a manifest.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.real.folder import FeatureFolder
from benchmarks.real.two_tower import two_tower_scores
from m2hf.array_types import FloatArray, IntArray
from m2hf.errors import M2hfError, UsageError
from m2hf.exchange.importing import import_streams
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import LATE_FUSION
from m2hf.fuse.scores.baselines import CONCATENATED, RIDGE, Baselines
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.fuse.scores.pooled import PooledSplit, pooled_splits
from m2hf.fuse.scores.ridge import Regressions
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.training.run import train
from m2hf.manifest import Manifest, captions_of
from m2hf.streams import CAPTION

RIDGE_ROW, TWO_TOWER, DEFAULT = "ridge", "two-tower", "default"
END_TO_END, ENSEMBLE = "end_to_end", "ensemble"
KS = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A row of one run: for each of `KS`, each query's probability of a hit (K, Q), 0 to 1, and CPU
    seconds of training and scoring; or the error."""

    hits_KQ: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    seconds: float = 0.0
    failed: str = ""

    @property
    def recall(self) -> tuple[float, ...]:
        """T2V R@K in percent for each of `KS`; empty after a failure."""
        return tuple(100 * float(hits_Q.mean()) for hits_Q in self.hits_KQ)


@dataclass(frozen=True, eq=False)
class Run:
    """A manifest, a seed, the video id of each test query, and the outcome of each row."""

    manifest: str
    seed: int
    videos: tuple[str, ...]
    rows: Mapping[str, Outcome]


class Fold:
    """A manifest of the folder with its own store, imported into `place`."""

    def __init__(self, folder: FeatureFolder, manifest: Path, place: Path) -> None:
        """Raises UsageError for features that can't be imported; `skipped`: arrays of ids that
        the manifest lacks, by stream."""
        self.manifest, self.store, self.place = Manifest.load(manifest), place / "store", place
        done = import_streams(
            self.manifest, self.store, folder.streams, {CAPTION: folder.captions}, skip_unknown=True
        )
        self.skipped = {name: made.unknown for name, made in done.items() if made.unknown}

    @property
    def test_videos(self) -> tuple[str, ...]:
        """The video id of each test query, in the order of the scores."""
        return tuple(caption.video for caption in captions_of(self.manifest.split("test")))

    def closed_form(self, config: FusionConfig) -> dict[str, Outcome]:
        """Ridge on all streams, and, where there are several levels, on each; zero-shot where the
        frames are in the captions' space."""
        train, val, test = self._parts(config)
        found, began = {}, time.process_time()
        for name, baseline in Baselines(config, Regressions(train, val)).score(test):
            seconds = time.process_time() - began
            found[name] = Outcome(_hits(baseline.scores_QV, test.video_of_query), seconds)
            began = time.process_time()
        joined = found.pop(CONCATENATED)
        if len(config.active_levels) == 1:  # that of the level is on the same streams
            joined = found.pop(f"{RIDGE}{next(iter(config.active_levels))}")
        return {RIDGE_ROW: joined, **found}

    def two_tower(self, config: FusionConfig) -> Outcome:
        """The two-tower model on all streams."""
        began = time.process_time()
        train, val, test = self._parts(config)
        scores_QV = two_tower_scores(train, val, test, config.train.seed, config.threads)
        return Outcome(_hits(scores_QV, test.video_of_query), time.process_time() - began)

    def _parts(self, config: FusionConfig) -> tuple[PooledSplit, PooledSplit, PooledSplit]:
        store = FeatureStore.open(self.store, self.manifest.card.name, config)
        return pooled_splits(self.manifest, store, config)

    def trained(self, config: FusionConfig) -> dict[str, Outcome]:
        """Each level on its own, both strategies where there are several levels, and `config`.

        Levels are those of the ensemble, which trains each alone: their seconds are its own.
        """
        levels = list(config.active_levels)
        configs = {DEFAULT: config}
        if len(levels) > 1:
            strategies = (END_TO_END, ENSEMBLE)
            configs |= {name: config.model_copy(update={"strategy": name}) for name in strategies}
        by_config: dict[str, Mapping[str, Outcome]] = {}
        for name, wanted in configs.items():
            key = wanted.model_dump_json()
            if key not in by_config:
                by_config[key] = self._train(wanted, f"{name}-{config.train.seed}")
        read = {name: by_config[wanted.model_dump_json()] for name, wanted in configs.items()}
        alone = read[ENSEMBLE if len(levels) > 1 else DEFAULT]
        rows = {name: alone[name] for name in levels}
        return rows | {name: read[name][LATE_FUSION] for name in sorted(read, key=_ORDER.index)}

    def _train(self, config: FusionConfig, run: str) -> dict[str, Outcome]:
        """By matrix of the similarity file; a training that fails is a failed outcome."""
        began = time.process_time()
        place = self.place / run
        try:
            train(self.manifest, self.store, place, config)
            file = SimilarityFile.read(evaluate(self.manifest, self.store, place))
        except UsageError:
            raise  # of the data: it would be so in every row
        except M2hfError as error:
            failed = Outcome(failed=f"{run}: {type(error).__name__}: {error}")
            return dict.fromkeys([*config.active_levels, LATE_FUSION], failed)
        seconds = time.process_time() - began
        return {
            name: Outcome(_hits(scores_QV, file.video_of_query), seconds)
            for name, scores_QV in file.scores.items()
        }


_ORDER = [ENSEMBLE, END_TO_END, DEFAULT]


def measure(fold: Fold, configs: list[FusionConfig]) -> Iterator[dict[str, Outcome]]:
    """The rows of a run with each of `configs`, which differ in the seed alone."""
    closed = fold.closed_form(configs[0])
    for config in configs:
        yield closed | {TWO_TOWER: fold.two_tower(config)} | fold.trained(config)


def _hits(scores_QV: FloatArray, video_of_query: IntArray) -> FloatArray:
    ranks = t2v_ranks(scores_QV, video_of_query)
    return np.stack([ranks.hit_share(k) for k in KS])
