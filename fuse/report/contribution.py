"""Which level won which queries, and what the fusion made of it.

Our reading: of the levels that know a query's right video, those that rank it best win the query;
several share it. A level that doesn't know the video (no sound, no text) takes no part, since its
rank is nothing but where unknown videos lie. Ranks are expected ranks under ties, as in the tables.

L levels, Q queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from m2hf.array_types import BoolArray, FloatArray
from m2hf.fuse.config import LATE_FUSION
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.fuse.scores.similarity_file import SimilarityFile


@dataclass(frozen=True)
class LevelTotal:
    """One level over all queries. asked: how many have a right video that it knows; alone: won by
    it alone; shared: won with others; worth: queries won, one that n levels share counting 1/n;
    ahead: it ranks the right video better than the fusion does."""

    name: str
    asked: int
    alone: int
    shared: int
    worth: float
    ahead: int


@dataclass(frozen=True)
class FusionTotal:
    """Queries by how the fusion ranks the right video against the best level: better, alike, or
    worse; unknown: no level knows the video."""

    better: int
    alike: int
    worse: int
    unknown: int


@dataclass(frozen=True, eq=False)
class Contribution:
    """rank_LQ: (L, Q) ranks of the right video; known_LQ: (L, Q) whether the level knows it;
    fused_Q: (Q,) its rank in the late fusion."""

    levels: tuple[str, ...]
    rank_LQ: FloatArray
    known_LQ: BoolArray
    fused_Q: FloatArray

    @classmethod
    def of(cls, file: SimilarityFile) -> Self:
        answers = file.video_of_query
        levels = tuple(file.masks)
        ranks = [t2v_ranks(file.scores[name], answers).expected for name in levels]
        known = [file.masks[name][answers] for name in levels]
        fused_Q = t2v_ranks(file.scores[LATE_FUSION], answers).expected
        return cls(levels, np.stack(ranks), np.stack(known), fused_Q)

    @cached_property
    def best_Q(self) -> FloatArray:
        """(Q,) the best rank that a level gives; infinite where none knows the video."""
        best: FloatArray = np.where(self.known_LQ, self.rank_LQ, np.inf).min(axis=0)
        return best

    @cached_property
    def won_LQ(self) -> BoolArray:
        """(L, Q) the winners."""
        won: BoolArray = self.known_LQ & (self.rank_LQ == self.best_Q)
        return won

    def winners(self, query: int) -> tuple[str, ...]:
        """Names of the levels that won a query; none where no level knows the video."""
        return tuple(n for n, won in zip(self.levels, self.won_LQ[:, query], strict=True) if won)

    def totals(self) -> Sequence[LevelTotal]:
        """A level each, in the order of the table."""
        winners_Q = self.won_LQ.sum(axis=0)
        ahead_LQ = self.known_LQ & (self.rank_LQ < self.fused_Q)
        return [
            LevelTotal(
                name,
                asked=int(known_Q.sum()),
                alone=int((won_Q & (winners_Q == 1)).sum()),
                shared=int((won_Q & (winners_Q > 1)).sum()),
                worth=float((won_Q / np.maximum(winners_Q, 1)).sum()),
                ahead=int(ahead_Q.sum()),
            )
            for name, known_Q, won_Q, ahead_Q in zip(
                self.levels, self.known_LQ, self.won_LQ, ahead_LQ, strict=True
            )
        ]

    def fusion(self) -> FusionTotal:
        known_Q = np.isfinite(self.best_Q)
        return FusionTotal(
            better=int((known_Q & (self.fused_Q < self.best_Q)).sum()),
            alike=int((known_Q & (self.fused_Q == self.best_Q)).sum()),
            worse=int((known_Q & (self.fused_Q > self.best_Q)).sum()),
            unknown=int((~known_Q).sum()),
        )
