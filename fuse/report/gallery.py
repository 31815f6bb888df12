"""Queries with the videos that were found for them, the worst failures first.

A score is shown in deviations above the mean of its level, over the videos that the level knows
and for one query: levels have scales of their own, and a query's scores only mean something
against each other.

Q queries, V videos.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from m2hf.array_types import BoolArray, FloatArray, IntArray
from m2hf.fuse.config import LATE_FUSION
from m2hf.fuse.report.contribution import Contribution
from m2hf.fuse.scores.late_rules import FLAT
from m2hf.fuse.scores.metrics import row_chunks
from m2hf.fuse.scores.similarity_file import SimilarityFile

TOP = 5
MOST = 1000  # cards on a page
OPEN = 50  # of them, from the first; a browser lays out what is open, and no more
SUCCESSES = 100  # of them, where there are more queries than cards
FULL = 4.0  # deviations that fill a bar


@dataclass(frozen=True)
class Bar:
    """A level's score in deviations; None where the level doesn't know the video."""

    level: str
    deviations: float | None

    @property
    def text(self) -> str:
        """With its sign, to a tenth; 0 has a plus."""
        return f"{round(self.deviations or 0.0, 1) + 0.0:+.1f}"

    @property
    def percent(self) -> float:
        """Of a bar that is full at `FULL`; what is below the mean has none."""
        return round(100 * min(max(self.deviations or 0.0, 0.0) / FULL, 1.0), 1)


@dataclass(frozen=True)
class Tile:
    """A video in a card. rank: its expected rank in the fusion."""

    video: int
    rank: float
    right: bool
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Card:
    """A query. place: from 1, the worst; rank: of the right video in the fusion; ranks: by level,
    None where the level doesn't know it; won: the levels that ranked it best; tiles: the top five,
    and the right video after them if it isn't there."""

    place: int
    query: int
    rank: float
    ranks: tuple[tuple[str, float | None], ...]
    won: tuple[str, ...]
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, eq=False)
class Gallery:
    """order: (Q,) queries, worst first, by the rank of the right video, then by how far the best
    other video lies above it, in deviations of the query's fused scores."""

    file: SimilarityFile
    contribution: Contribution
    order: IntArray

    @classmethod
    def of(cls, file: SimilarityFile, contribution: Contribution) -> Self:
        order = np.lexsort((-_margins(file), -contribution.fused_Q))
        return cls(file, contribution, order)

    @cached_property
    def places(self) -> Sequence[int]:
        """Places in `order` that get a card: all, or of more than 1000 the worst 900 and 100 evenly
        from the rest."""
        if len(self.order) <= MOST:
            return range(len(self.order))
        worst = MOST - SUCCESSES
        evenly = np.linspace(worst, len(self.order) - 1, SUCCESSES).round().astype(int)
        return [*range(worst), *evenly.tolist()]

    def cards(self) -> Iterator[Card]:
        """A card for each of them."""
        return map(self._card, self.places)

    def _card(self, place: int) -> Card:
        file, found, query = self.file, self.contribution, int(self.order[place])
        scores = {name: matrix[query].astype(np.float64) for name, matrix in file.scores.items()}
        known = {**file.masks, LATE_FUSION: file.known_V}
        deviations = {name: _deviations(row, known[name]) for name, row in scores.items()}
        fused_V = scores[LATE_FUSION]
        right = int(file.video_of_query[query])
        best = np.argsort(-fused_V, kind="stable")[:TOP].tolist()
        tiles = []
        for video in best if right in best else [*best, right]:
            better = int((fused_V > fused_V[video]).sum())
            ties = int((fused_V == fused_V[video]).sum()) - 1
            bars = (
                Bar(n, float(row[video]) if known[n][video] else None)
                for n, row in deviations.items()
            )
            tiles.append(Tile(video, 1 + better + ties / 2, video == right, tuple(bars)))
        ranks = zip(found.levels, found.rank_LQ[:, query], found.known_LQ[:, query], strict=True)
        return Card(
            place + 1,
            query,
            float(found.fused_Q[query]),
            tuple((name, float(rank) if knows else None) for name, rank, knows in ranks),
            found.winners(query),
            tuple(tiles),
        )


def _deviations(scores_V: FloatArray, known_V: BoolArray) -> FloatArray:
    """(V,) above the mean of known videos; 0 for all where these have one score."""
    inside = scores_V[known_V] if known_V.any() else scores_V
    spread = float(inside.std())
    centred: FloatArray = (scores_V - inside.mean()) / (spread if spread > FLAT else np.inf)
    return centred


def _margins(file: SimilarityFile) -> FloatArray:
    """(Q,) the best other video's fused score less the right one's, in deviations."""
    found = []
    known_V = file.known_V if file.known_V.any() else np.ones_like(file.known_V)
    for part, rows_QV in row_chunks(file.scores[LATE_FUSION]):
        own_Q1 = file.video_of_query[part][:, None]
        rows_QV = rows_QV.astype(np.float64)
        right_Q = np.take_along_axis(rows_QV, own_Q1, axis=1)[:, 0]
        spread_Q = rows_QV[:, known_V].std(axis=1)
        np.put_along_axis(rows_QV, own_Q1, -np.inf, axis=1)
        best_Q = rows_QV.max(axis=1, initial=-np.inf)
        best_Q = np.where(np.isfinite(best_Q), best_Q, right_Q)  # a gallery of one video
        found.append((best_Q - right_Q) / np.where(spread_Q > FLAT, spread_Q, np.inf))
    return np.concatenate([np.empty(0), *found])
