"""What a table is made of: parts (one data set and split), blocks (one model, or one set of
matrices), rows (one way to score), and a score for each direction. numpy only.

A flag is a word of caution that every format repeats with its row. A block says what its numbers
were made from, so that each can be traced. A score may stand for several runs that differ in the
seed alone: then its values are means, with the deviation between runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from m2hf.fuse.scores.metrics import KS, Ranks, RetrievalMetrics
from m2hf.fuse.tables import bootstrap
from m2hf.fuse.tables.paper import PaperResult

RECALLS = tuple(f"R@{k}" for k in KS)
MEASURES = (*RECALLS, "RSum", "MdR", "MnR")


@dataclass(frozen=True)
class Flag:
    """A word for scripts, such as "transductive", and the footnote for people."""

    name: str
    note: str


@dataclass(frozen=True)
class Score:
    """One direction of one row, over one run or several that differ in the seed.

    interval: of R@1 in percent, by bootstrap, of the mean over the runs.
    """

    runs: tuple[RetrievalMetrics, ...]
    interval: tuple[float, float]

    @classmethod
    def of(cls, ranks: Sequence[Ranks], candidates: int) -> Self:
        """Of the ranks of each run, with the same queries in the same order."""
        hit_share = np.mean([run.hit_share(1) for run in ranks], axis=0)
        metrics = tuple(RetrievalMetrics.of(run, candidates) for run in ranks)
        return cls(metrics, bootstrap.interval(hit_share, ranks[0].video))

    @property
    def queries(self) -> int:
        """How many queries every run has."""
        return self.runs[0].queries

    @property
    def candidates(self) -> int:
        """How many candidates each query ranks."""
        return self.runs[0].candidates

    @cached_property
    def mean(self) -> dict[str, float]:
        """Each measure, and its `_worst` and `_best` where ties could be ordered so."""
        return {name: float(np.mean(values)) for name, values in self._values.items()}

    @cached_property
    def deviation(self) -> dict[str, float]:
        """Sample deviation of each measure between runs; empty for a single run."""
        if len(self.runs) < 2:
            return {}
        return {name: float(np.std(self._values[name], ddof=1)) for name in MEASURES}

    def tied(self, measure: str) -> bool:
        """Whether ties make a difference to a recall."""
        return self.mean[f"{measure}_worst"] != self.mean[f"{measure}_best"]

    @cached_property
    def _values(self) -> dict[str, list[float]]:
        spreads = {f"R@{k}": [run.recall[k] for run in self.runs] for k in KS}
        spreads |= {"MdR": [r.median for r in self.runs], "MnR": [r.mean for r in self.runs]}
        values = {name: [s.expected for s in of] for name, of in spreads.items()}
        values["RSum"] = [run.recall_sum for run in self.runs]
        for name, of in spreads.items():
            values[f"{name}_worst"] = [s.worst for s in of]
            values[f"{name}_best"] = [s.best for s in of]
        return values


@dataclass(frozen=True)
class Row:
    """One way to score, by direction ("t2v", "v2t"; querybank has the first alone).

    subset: what the queries or their videos have in common where it isn't all of them, such as
    "with audio"; the candidates are always all. paper: the paper's number for the same thing,
    which stands beside ours.
    """

    scoring: str
    scores: Mapping[str, Score]
    flags: tuple[Flag, ...] = ()
    subset: str = ""
    paper: PaperResult | None = None

    @property
    def name(self) -> str:
        """Unique in its block."""
        return f"{self.scoring} ({self.subset})" if self.subset else self.scoring


@dataclass(frozen=True)
class Block:
    """Rows of one model or of one set of matrices.

    digest: 64 hex digits that follow from all that the numbers were made from; chain: what that
    is, by name, as plain data without paths; label: what the block is, where there are others.
    """

    label: str
    rows: tuple[Row, ...]
    digest: str
    chain: Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """Blocks on one data set and split, with notes on all of them.

    paper: the paper's row, where one is shown, and whether it was measured on the same data.
    """

    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    paper: tuple[PaperResult, bool] | None = None


@dataclass(frozen=True)
class Table:
    """Parts in the order in which they were given."""

    parts: tuple[Part, ...]

    def rows(self) -> Iterator[tuple[Part, Block, Row]]:
        """Every row with where it stands."""
        for part in self.parts:
            for block in part.blocks:
                for row in block.rows:
                    yield part, block, row
