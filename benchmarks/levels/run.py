"""Train and score every row: a process a data set, a torch thread each.

Seeds choose the data set and the training alike, so that a deviation over seeds is one over
both; rows meet on the same data sets, so that differences are taken seed by seed.
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
from benchmarks.levels.rows import IMBALANCED, Reading, Row, config_of, scoring_of
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
    """Which data a training sees; missing: (factor, share) pairs."""

    setting: str
    seed: int
    missing: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Task:
    """All trainings on one data set: what each sets -> what is read of it."""

    data: DataSet
    trainings: Mapping[tuple[str, ...], Sequence[Reading]]


@dataclass(frozen=True)
class Outcome:
    """One training: R@1 in percent of what rows read, and of every matrix; CPU seconds of
    training, and of all closed-form baselines where rows read one; epochs; or why it failed."""

    read: Mapping[Reading, float] = field(default_factory=dict)
    matrices: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    closed_seconds: float = 0.0
    epochs: int = 0
    failed: str = ""


Outcomes = dict[tuple[DataSet, tuple[str, ...]], Outcome]


def data_set(row: Row, setting: str, seed: int) -> DataSet:
    """The data that `row` is trained on."""
    return DataSet(setting, seed, tuple(sorted(row.missing.items())))


def row_name(row: Row, setting: str) -> str:
    """The row's name in the results; the imbalanced setting is the one that needs no word."""
    return row.name if setting == IMBALANCED else f"{setting}/{row.name}"


def tasks(rows: Sequence[Row], seeds: int) -> list[Task]:
    """What is to be done, the longest first, so that the last process is not left alone."""
    found: dict[DataSet, dict[tuple[str, ...], list[Reading]]] = {}
    for seed in range(seeds):
        for row in rows:
            for setting in row.settings:
                trainings = found.setdefault(data_set(row, setting, seed), {})
                trainings.setdefault(row.set, []).append(row.reading)
    made = [Task(data, trainings) for data, trainings in found.items()]
    return sorted(made, key=lambda task: -len(task.trainings))


def run(
    todo: Sequence[Task], workers: int, scale: float, more: tuple[str, ...] = ()
) -> Iterator[tuple[Task, Outcomes]]:
    """Do each task, in the order in which they end; `more` is set for every training,
    scale: share of the videos."""
    if workers <= 1:
        yield from ((task, do(task, scale, more)) for task in todo)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(do, task, scale, more): task for task in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()


def do(task: Task, scale: float, more: tuple[str, ...]) -> Outcomes:
    """Write the data set, then train and score on it all that the task names."""
    data = task.data
    outcomes: Outcomes = {}
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
                outcomes[data, row_set] = Outcome(failed=f"{type(error).__name__}: {error}")
    return outcomes


def _train(
    manifest: Manifest,
    root: Path,
    place: Path,
    row_set: tuple[str, ...],
    reads: Sequence[Reading],
    data: DataSet,
    more: tuple[str, ...],
) -> Outcome:
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
        answers = files[()].video_of_query
        for reading in closed:
            ranks = t2v_ranks(found[reading.read[0]].scores_QV, answers)
            read[reading] = ranks.recall(1).expected
    return Outcome(
        read=read,
        matrices={name: _recall(files[()], (name,)) for name in files[()].scores},
        seconds=seconds,
        closed_seconds=time.process_time() - began,
        epochs=summary.epochs,
    )


def _recall(file: SimilarityFile, names: Sequence[str]) -> float:
    """R@1 in percent of one matrix, or of the mean of several levels over those that know the
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
