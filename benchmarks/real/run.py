"""Import the folder into a store, and train and score every row: one after another.

A run is a manifest and a seed. Models that need no seed are solved once a manifest.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.real.folder import FeatureFolder
from benchmarks.real.two_tower import two_tower_scores
from m2hf.array_types import FloatArray, IntArray
from m2hf.errors import M2hfError, UsageError
from m2hf.exchange.importing import import_streams
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import LATE_FUSION
from m2hf.fuse.scores.baselines import (
    CONCATENATED,
    RIDGE,
    baselines,
    pooled_splits,
)
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.training.run import train
from m2hf.manifest import Manifest

RIDGE_ROW, TWO_TOWER, DEFAULT = "ridge", "two-tower", "default"
END_TO_END, ENSEMBLE = "end_to_end", "ensemble"
KS = (1, 5, 10)


@dataclass(frozen=True)
class Outcome:
    """A row of one run: T2V R@K in percent for each of `KS`, CPU seconds of training and scoring;
    or the error."""

    recall: tuple[float, ...] = ()
    seconds: float = 0.0
    failed: str = ""


class Fold:
    """A manifest of the folder with its own store, imported into `place`."""

    def __init__(self, folder: FeatureFolder, manifest: Path, place: Path) -> None:
        """Raises UsageError for features that can't be imported; `skipped`: arrays of ids that
        the manifest lacks, by stream."""
        self.manifest, self.store, self.place = Manifest.load(manifest), place / "store", place
        done = import_streams(
            self.manifest, self.store, folder.streams, folder.captions, skip_unknown=True
        )
        self.skipped = {name: made.unknown for name, made in done.items() if made.unknown}

    def closed_form(self, config: FusionConfig) -> dict[str, Outcome]:
        """Ridge on all streams, and, where there are several levels, on each; zero-shot where the
        frames are in the captions' space."""
        store = FeatureStore.open(self.store, self.manifest.card.name, config)
        truth = pooled_splits(self.manifest, store, config)[2].video_of_query
        found, began = {}, time.process_time()
        for name, baseline in baselines(self.manifest, store, config):
            seconds = time.process_time() - began
            found[name] = Outcome(_recall(baseline.scores_QV, truth), seconds)
            began = time.process_time()
        rows = {RIDGE_ROW: found.pop(CONCATENATED)}
        if len(config.active_levels) == 1:  # equal to the ridge on all
            found.pop(f"{RIDGE}{next(iter(config.active_levels))}")
        return rows | found

    def two_tower(self, config: FusionConfig) -> Outcome:
        """The two-tower model on all streams."""
        began = time.process_time()
        store = FeatureStore.open(self.store, self.manifest.card.name, config)
        parts = pooled_splits(self.manifest, store, config)
        scores_QV = two_tower_scores(*parts, config.train.seed, config.threads)
        recall = _recall(scores_QV, parts[2].video_of_query)
        return Outcome(recall, time.process_time() - began)

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
            name: Outcome(_recall(scores_QV, file.video_of_query), seconds)
            for name, scores_QV in file.scores.items()
        }


_ORDER = [ENSEMBLE, END_TO_END, DEFAULT]


def measure(fold: Fold, configs: list[FusionConfig]) -> Iterator[dict[str, Outcome]]:
    """The rows of a run with each of `configs`, which differ in the seed alone."""
    closed = fold.closed_form(configs[0])
    for config in configs:
        yield closed | {TWO_TOWER: fold.two_tower(config)} | fold.trained(config)


def _recall(scores_QV: FloatArray, video_of_query: IntArray) -> tuple[float, ...]:
    ranks = t2v_ranks(scores_QV, video_of_query)
    return tuple(ranks.recall(k).expected for k in KS)
