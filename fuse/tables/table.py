"""The table model: parts (one data set and split), blocks (one model, or one set of matrices), rows
(one scoring method), and aggregate metrics for each direction. numpy only.

A flag is a caveat that every format repeats with its row. A block carries the digests of its
inputs, so that each number can be traced. Metrics may aggregate several runs that differ only in
the seed: then the values are means, with the sample deviation between runs.
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
    """A caveat on a row: its name, such as "transductive", and the text of its footnote."""

    name: str
    note: str


@dataclass(frozen=True)
class AggregateMetrics:
    """Metrics of one direction of one row, over one run or several that differ only in the seed.

    interval: bootstrap interval of R@1 in percent, of the mean over the runs, with their seeds.
    """

    runs: tuple[RetrievalMetrics, ...]
    interval: tuple[float, float]

    @classmethod
    def of(cls, ranks: Sequence[Ranks], candidates: int) -> Self:
        """Aggregate the ranks of each run, which has the same queries in the same order."""
        hit_shares = [run.hit_share(1) for run in ranks]
        metrics = tuple(RetrievalMetrics.of(run, candidates) for run in ranks)
        return cls(metrics, bootstrap.interval(hit_shares, ranks[0].video))

    @property
    def queries(self) -> int:
        """Number of queries, the same in every run."""
        return self.runs[0].queries

    @property
    def candidates(self) -> int:
        """Number of candidates that each query ranks."""
        return self.runs[0].candidates

    @cached_property
    def mean(self) -> dict[str, float]:
        """Each measure, and its `_worst` and `_best` over the order of ties."""
        return {name: float(np.mean(values)) for name, values in self._values.items()}

    @cached_property
    def deviation(self) -> dict[str, float]:
        """Sample deviation of each measure between runs; empty for a single run."""
        if len(self.runs) < 2:
            return {}
        return {name: float(np.std(self._values[name], ddof=1)) for name in MEASURES}

    def tied(self, measure: str) -> bool:
        """Whether the order of ties changes a recall."""
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
class TableRow:
    """One scoring method, by direction ("t2v", "v2t"; querybank normalisation has only the first).

    subset: the property that the queries or their videos share where the row doesn't cover all of
    them, such as "with audio"; the candidates are always all. paper: the paper's result on the
    same data, printed next to ours.
    """

    scoring: str
    metrics: Mapping[str, AggregateMetrics]
    flags: tuple[Flag, ...] = ()
    subset: str = ""
    paper: PaperResult | None = None

    @property
    def name(self) -> str:
        """Unique in its block."""
        return f"{self.scoring} ({self.subset})" if self.subset else self.scoring


@dataclass(frozen=True)
class TableBlock:
    """Rows of one model or of one set of matrices.

    digest: 64 hex digits over all inputs of the numbers; chain: the digests and configs of these
    inputs, as plain data without paths; label: tells the block from the others of its part.
    """

    label: str
    rows: tuple[TableRow, ...]
    digest: str
    chain: Mapping[str, Any]


@dataclass(frozen=True)
class TablePart:
    """Blocks on one data set and split, with notes on all of them.

    paper: the paper's result, where one is shown, and whether it was measured on the same data.
    """

    title: str
    blocks: tuple[TableBlock, ...]
    notes: tuple[str, ...]
    paper: tuple[PaperResult, bool] | None = None


@dataclass(frozen=True)
class Table:
    """Parts in the order of the input files."""

    parts: tuple[TablePart, ...]

    def rows(self) -> Iterator[tuple[TablePart, TableBlock, TableRow]]:
        """Every row with its part and block."""
        for part in self.parts:
            for block in part.blocks:
                for row in block.rows:
                    yield part, block, row
