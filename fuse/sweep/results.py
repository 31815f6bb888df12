"""The results of a sweep, cell by cell: late fusion on the split, and on validation.

A cell's numbers are means over its seeds. Differences to the base are paired: on the same queries
and seed by seed. The best cell is chosen on validation, never on the split that is scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field

from m2hf.array_types import FloatArray, IntArray
from m2hf.config import Section, parse
from m2hf.errors import UsageError
from m2hf.fuse.level_table import LATE_FUSION
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.sweep.runs import SweepPlan, SweepRun
from m2hf.fuse.tables.bootstrap import paired_interval
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.fuse.tables.table import Table, TableRow
from m2hf.plain_data import json_object, read_text


class Validation(Section):
    """What RUN/validation.json holds: T2V R@1 in percent by level, of so many queries and videos,
    and the epoch that was kept."""

    recall: dict[str, float] = Field(alias="R@1")
    queries: int
    videos: int
    epoch: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises UsageError for a file that is missing or damaged."""
        where = f"{path} (train the run again)"
        return parse(cls, json_object(read_text(path, where), where), where, UsageError)


@dataclass(frozen=True)
class Difference:
    """Mean T2V R@1 minus that of the base in points, with its interval, over `seeds` seeds."""

    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class CellResult:
    """A cell of which at least one run is done. validation: of each run, none where nothing is
    trained; row: of late fusion; digest: of its block in the table; best: on validation."""

    name: str
    runs: Sequence[SweepRun]
    validation: Sequence[Validation]
    row: TableRow
    digest: str
    difference: Difference | None = None
    best: bool = False

    @property
    def val_recalls(self) -> list[float]:
        """Validation R@1 of late fusion in percent, of each run."""
        return [each.recall[LATE_FUSION] for each in self.validation]


@dataclass(frozen=True)
class SweepResults:
    """cells: in the order of the grid; table: all numbers of all runs, as `m2hf tables` makes it;
    lacking: why a cell, or a run of it, has no result, by name."""

    cells: Sequence[CellResult]
    table: Table
    base: str
    lacking: Mapping[str, str]

    @classmethod
    def of(cls, plan: SweepPlan, failed: Mapping[str, str], base: str) -> Self:
        """Of a sweep whose runs are done, but for the failed ones, which are given by key.

        Raises UsageError where no run is done.
        """
        done = {
            name: [run for run in runs if run.key not in failed] for name, runs in plan.runs.items()
        }
        lacking = dict(plan.impossible)
        lacking |= {
            str(run): failed[run.key]
            for runs in plan.runs.values()
            for run in runs
            if run.key in failed
        }
        labels = {run.folder.similarity: run.cell for run in plan.unique() if run.key not in failed}
        if not labels:
            reasons = "; ".join(f"{name}: {why}" for name, why in lacking.items())
            raise UsageError(f"no run of the grid could be done: {reasons}")
        table = SimilarityTable().build(list(labels), labels)
        rows = {
            block.label: (row, block.digest)
            for _, block, row in table.rows()
            if row.name == LATE_FUSION
        }
        cells = []
        for name, runs in done.items():
            if runs:
                row, digest = rows[labels[runs[0].folder.similarity]]
                paths = [
                    run.folder.validation for run in runs if run.config.strategy != "zero_shot"
                ]
                cells.append(CellResult(name, runs, [*map(Validation.read, paths)], row, digest))
        complete = {name for name, runs in plan.runs.items() if len(done[name]) == len(runs)}
        return cls(_compared(cells, base, complete), table, base, lacking)


def _compared(cells: Sequence[CellResult], base: str, complete: set[str]) -> list[CellResult]:
    """With differences to the base, and with the best of the complete cells marked."""
    hits = _Hits()
    of_base = next((cell for cell in cells if cell.name == base), None)
    means = {c.name: float(np.mean(c.val_recalls)) for c in cells if c.validation}
    top = max((mean for name, mean in means.items() if name in complete), default=None)
    return [
        CellResult(
            cell.name, cell.runs, cell.validation, cell.row, cell.digest,
            None if of_base in (None, cell) else hits.difference(cell.runs, of_base.runs),
            cell.name in complete and means.get(cell.name) == top,
        )
        for cell in cells
    ]  # fmt: skip


class _Hits:
    """Each query's probability of a hit in late fusion, by run; read once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[FloatArray, IntArray]] = {}

    def difference(self, runs: Sequence[SweepRun], others: Sequence[SweepRun]) -> Difference | None:
        """Run by run, of the seeds that both have; None where there is none."""
        theirs = {run.seed: run for run in others}
        pairs = [(run, theirs[run.seed]) for run in runs if run.seed in theirs]
        if not pairs:
            return None
        mine, base = ([self._of(run)[0] for run in side] for side in zip(*pairs, strict=True))
        low, high = paired_interval(mine, base, self._of(pairs[0][0])[1])
        mean = 100 * float(np.mean(mine) - np.mean(base))
        return Difference(mean, low, high, len(pairs))

    def _of(self, run: SweepRun) -> tuple[FloatArray, IntArray]:
        if run.key not in self._known:
            file = SimilarityFile.read(run.folder.similarity)
            ranks = t2v_ranks(file.scores[LATE_FUSION], file.video_of_query)
            self._known[run.key] = ranks.hit_share(1), ranks.video
        return self._known[run.key]
