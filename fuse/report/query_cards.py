"""Queries with their top-ranked videos, the worst failures first.

A score is shown in standard deviations above the mean of its level, over the videos that the level
covers and for one query: levels have different scales, and scores of one query are only comparable
with each other.

Q queries, V videos.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from m2hf.array_types import BoolArray, FloatArray, IntArray
from m2hf.fuse.level_table import LATE_FUSION
from m2hf.fuse.report.contribution import Contribution
from m2hf.fuse.scores.late_rules import FLAT
from m2hf.fuse.scores.metrics import row_chunks
from m2hf.fuse.scores.similarity_file import SimilarityFile

TOP = 5
MAX_CARDS = 1000
OPEN_CARDS = 50  # from the first; a browser only lays out open cards
SAMPLED_CARDS = 100  # of all cards, sampled after the worst if there are more queries than cards
FULL_BAR = 4.0  # deviations that fill a bar


@dataclass(frozen=True)
class ScoreBar:
    """A level's score in deviations; None where the level doesn't cover the video."""

    level: str
    deviations: float | None

    @property
    def text(self) -> str:
        """Signed, with one decimal; 0 is +0.0."""
        return f"{round(self.deviations or 0.0, 1) + 0.0:+.1f}"

    @property
    def percent(self) -> float:
        """Length of the bar, full at `FULL_BAR`; 0 for scores below the mean."""
        return round(100 * min(max(self.deviations or 0.0, 0.0) / FULL_BAR, 1.0), 1)


@dataclass(frozen=True)
class Tile:
    """A video in a card. rank: its expected rank in late fusion; correct: whether it is the
    ground-truth video."""

    video: int
    rank: float
    correct: bool
    bars: tuple[ScoreBar, ...]


@dataclass(frozen=True)
class QueryCard:
    """A query. position: from 1, the worst; rank: of the ground-truth video in late fusion; ranks:
    by level, None where the level doesn't cover it; winners: the levels that rank it best; tiles:
    the top five, followed by the ground-truth video if it isn't among them."""

    position: int
    query: int
    rank: float
    ranks: tuple[tuple[str, float | None], ...]
    winners: tuple[str, ...]
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, eq=False)
class QueryCards:
    """order: (Q,) queries, worst first, by the rank of the ground-truth video, then by the margin
    of the best other video over it, in deviations of the query's fused scores."""

    file: SimilarityFile
    contribution: Contribution
    order: IntArray

    @classmethod
    def of(cls, file: SimilarityFile, contribution: Contribution) -> Self:
        order = np.lexsort((-_margins(file), -contribution.fused_Q))
        return cls(file, contribution, order)

    @cached_property
    def positions(self) -> Sequence[int]:
        """Positions in `order` that get a card: all, or of more than 1000 the worst 900 and 100
        evenly spaced ones of the rest."""
        if len(self.order) <= MAX_CARDS:
            return range(len(self.order))
        worst = MAX_CARDS - SAMPLED_CARDS
        evenly = np.linspace(worst, len(self.order) - 1, SAMPLED_CARDS).round().astype(int)
        return [*range(worst), *evenly.tolist()]

    def cards(self) -> Iterator[QueryCard]:
        """A card for each of `positions`."""
        return map(self._card, self.positions)

    def _card(self, position: int) -> QueryCard:
        file, found, query = self.file, self.contribution, int(self.order[position])
        scores = {name: matrix[query].astype(np.float64) for name, matrix in file.scores.items()}
        covered = {**file.masks, LATE_FUSION: file.covered_V}
        deviations = {name: _deviations(row, covered[name]) for name, row in scores.items()}
        fused_V = scores[LATE_FUSION]
        truth = int(file.video_of_query[query])
        best = np.argsort(-fused_V, kind="stable")[:TOP].tolist()
        tiles = []
        for video in best if truth in best else [*best, truth]:
            better = int((fused_V > fused_V[video]).sum())
            ties = int((fused_V == fused_V[video]).sum()) - 1
            bars = (
                ScoreBar(n, float(row[video]) if covered[n][video] else None)
                for n, row in deviations.items()
            )
            tiles.append(Tile(video, 1 + better + ties / 2, video == truth, tuple(bars)))
        ranks = zip(found.levels, found.rank_LQ[:, query], found.covered_LQ[:, query], strict=True)
        return QueryCard(
            position + 1,
            query,
            float(found.fused_Q[query]),
            tuple((name, float(rank) if covers else None) for name, rank, covers in ranks),
            found.winners(query),
            tuple(tiles),
        )


def _deviations(scores_V: FloatArray, covered_V: BoolArray) -> FloatArray:
    """(V,) deviations above the mean of covered videos; 0 for all where these scores are equal."""
    covered = scores_V[covered_V] if covered_V.any() else scores_V
    spread = float(covered.std())
    centred: FloatArray = (scores_V - covered.mean()) / (spread if spread > FLAT else np.inf)
    return centred


def _margins(file: SimilarityFile) -> FloatArray:
    """(Q,) best fused score of another video minus the ground-truth video's, in deviations."""
    found = []
    covered_V = file.covered_V if file.covered_V.any() else np.ones_like(file.covered_V)
    for part, rows_QV in row_chunks(file.scores[LATE_FUSION]):
        own_Q1 = file.video_of_query[part][:, None]
        rows_QV = rows_QV.astype(np.float64)
        truth_Q = np.take_along_axis(rows_QV, own_Q1, axis=1)[:, 0]
        spread_Q = rows_QV[:, covered_V].std(axis=1)
        np.put_along_axis(rows_QV, own_Q1, -np.inf, axis=1)
        best_Q = rows_QV.max(axis=1, initial=-np.inf)
        best_Q = np.where(np.isfinite(best_Q), best_Q, truth_Q)  # a gallery of one video
        found.append((best_Q - truth_Q) / np.where(spread_Q > FLAT, spread_Q, np.inf))
    return np.concatenate([np.empty(0), *found])
