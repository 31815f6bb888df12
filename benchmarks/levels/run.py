"""Train and score every row: one process per data set, one torch thread each.

A seed selects both the data set and the training, so that a deviation over seeds covers both; all
rows use the same data sets, so that differences are paired by seed.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.levels.corpus import SETTINGS, write
from benchmarks.levels.rows import IMBALANCED, Ablation, Reading, config_of, scoring_of
from m2hf.errors import M2hfError
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.scores.baselines import baselines
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.fuse.scores.similarity_file import MISSING_SCORE, SimilarityFile
from m2hf.fuse.training.run import train
from m2hf.manifest import Manifest


@dataclass(frozen=True)
class DataSet:
    """The synthetic data of a training; missing: (factor, share) pairs."""

    setting: str
    seed: int
    missing: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TrainingTask:
    """All trainings on one data set: overrides of a training -> how its scores are read."""

    data: DataSet
    trainings: Mapping[tuple[str, ...], Sequence[Reading]]


@dataclass(frozen=True)
class TrainingOutcome:
    """One training: R@1 in percent by reading and of every matrix; CPU seconds of training, and of
    all closed-form baselines if rows read one; epochs; or the error."""

    read: Mapping[Reading, float] = field(default_factory=dict)
    matrices: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    closed_seconds: float = 0.0
    epochs: int = 0
    failed: str = ""


TrainingOutcomes = dict[tuple[DataSet, tuple[str, ...]], TrainingOutcome]


def data_set(row: Ablation, setting: str, seed: int) -> DataSet:
    """The data that `row` is trained on."""
    return DataSet(setting, seed, tuple(sorted(row.missing.items())))


def row_name(row: Ablation, setting: str) -> str:
    """The row's name in the results, with its setting as a prefix unless that is imbalanced."""
    return row.name if setting == IMBALANCED else f"{setting}/{row.name}"


def tasks(rows: Sequence[Ablation], seeds: Sequence[int]) -> list[TrainingTask]:
    """The tasks, longest first, so that no long one is left for the end."""
    found: dict[DataSet, dict[tuple[str, ...], list[Reading]]] = {}
    for seed in seeds:
        for row in rows:
            for setting in row.settings:
                trainings = found.setdefault(data_set(row, setting, seed), {})
                trainings.setdefault(row.set, []).append(row.reading)
    made = [TrainingTask(data, trainings) for data, trainings in found.items()]
    return sorted(made, key=lambda task: -len(task.trainings))


def run(
    todo: Sequence[TrainingTask], workers: int, scale: float, more: tuple[str, ...] = ()
) -> Iterator[tuple[TrainingTask, TrainingOutcomes]]:
    """Run each task and yield in order of completion; more: overrides of every training; scale:
    fraction of the videos."""
    if workers <= 1:
        yield from ((task, run_task(task, scale, more)) for task in todo)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run_task, task, scale, more): task for task in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()


def run_task(task: TrainingTask, scale: float, more: tuple[str, ...]) -> TrainingOutcomes:
    """Write the data set, then run the task's trainings on it and score them."""
    data = task.data
    outcomes: TrainingOutcomes = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        setting = SETTINGS[data.setting]
        sizes = setting.sizes.scaled(scale)
        manifest = write(root / "store", setting, data.seed, dict(data.missing), sizes)
        for number, (row_set, reads) in enumerate(task.trainings.items()):
            place = root / str(number)
            try:
                outcomes[data, row_set] = _train(manifest, root, place, row_set, reads, data, more)
            except M2hfError as error:
                outcomes[data, row_set] = TrainingOutcome(failed=f"{type(error).__name__}: {error}")
    return outcomes


def _train(
    manifest: Manifest,
    root: Path,
    place: Path,
    row_set: tuple[str, ...],
    reads: Sequence[Reading],
    data: DataSet,
    more: tuple[str, ...],
) -> TrainingOutcome:
    config = config_of(row_set, data.seed, more)
    began = time.process_time()
    summary = train(manifest, root / "store", place, config)
    seconds = time.process_time() - began
    files = {
        score: SimilarityFile.read(evaluate(manifest, root / "store", place, scoring_of(score)))
        for score in dict.fromkeys([(), *(reading.score for reading in reads)])
    }
    read = {r: _recall(files[r.score], r.read) for r in reads if not r.closed}
    began = time.process_time()
    closed = [reading for reading in reads if reading.closed]
    if closed:
        store = FeatureStore.open(root / "store", manifest.card.name, config)
        found = dict(baselines(manifest, store, config))
        ground_truth = files[()].video_of_query
        for reading in closed:
            ranks = t2v_ranks(found[reading.read[0]].scores_QV, ground_truth)
            read[reading] = ranks.recall(1).expected
    return TrainingOutcome(
        read=read,
        matrices={name: _recall(files[()], (name,)) for name in files[()].scores},
        seconds=seconds,
        closed_seconds=time.process_time() - began,
        epochs=summary.epochs,
    )


def _recall(file: SimilarityFile, names: Sequence[str]) -> float:
    """R@1 in percent of one matrix, or of the mean over those of several levels that cover the
    video."""
    scores_QV = file.scores[names[0]]
    if len(names) > 1:
        known_LV = np.stack([file.masks[name] for name in names])
        levels_LQV = np.stack([file.scores[name] for name in names])
        total_QV = np.where(known_LV[:, None], levels_LQV, 0.0).sum(axis=0)
        scores_QV = np.where(
            known_LV.any(axis=0), total_QV / known_LV.sum(axis=0).clip(1), MISSING_SCORE
        )
    return t2v_ranks(scores_QV, file.video_of_query).recall(1).expected
