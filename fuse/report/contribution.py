"""How much each level contributes: which level wins a query, compared with late fusion.

Our definition: of the levels that cover a query's ground-truth video, those that rank it best win
the query; several may share it. A level covers a video if it has the features that it reads; where
it doesn't (no sound, no text), its rank of the video says nothing, so it takes no part. Ranks are
expected ranks under ties, as in the tables.

L levels, Q queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from m2hf.array_types import BoolArray, FloatArray
from m2hf.fuse.level_table import LATE_FUSION
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.fuse.scores.similarity_file import SimilarityFile


@dataclass(frozen=True)
class LevelTotal:
    """One level over all queries. covered: queries whose ground-truth video it covers; won_alone
    and won_shared: queries won; wins: queries won, where one that n levels share counts 1/n;
    beats_fusion: queries whose ground-truth video it ranks better than late fusion does."""

    name: str
    covered: int
    won_alone: int
    won_shared: int
    wins: float
    beats_fusion: int


@dataclass(frozen=True)
class FusionTotal:
    """Queries by how late fusion ranks the ground-truth video compared with the best level: better,
    equal, or worse; uncovered: no level covers the video."""

    better: int
    equal: int
    worse: int
    uncovered: int


@dataclass(frozen=True, eq=False)
class Contribution:
    """rank_LQ: (L, Q) ranks of the ground-truth video; covered_LQ: (L, Q) whether the level covers
    it; fused_Q: (Q,) its rank in late fusion."""

    levels: tuple[str, ...]
    rank_LQ: FloatArray
    covered_LQ: BoolArray
    fused_Q: FloatArray

    @classmethod
    def of(cls, file: SimilarityFile) -> Self:
        truth_Q = file.video_of_query
        levels = tuple(file.masks)
        ranks = [t2v_ranks(file.scores[name], truth_Q).expected for name in levels]
        covered = [file.masks[name][truth_Q] for name in levels]
        fused_Q = t2v_ranks(file.scores[LATE_FUSION], truth_Q).expected
        return cls(levels, np.stack(ranks), np.stack(covered), fused_Q)

    @cached_property
    def best_Q(self) -> FloatArray:
        """(Q,) the best rank over levels; infinite where no level covers the video."""
        best: FloatArray = np.where(self.covered_LQ, self.rank_LQ, np.inf).min(axis=0)
        return best

    @cached_property
    def won_LQ(self) -> BoolArray:
        """(L, Q) whether the level wins the query."""
        won: BoolArray = self.covered_LQ & (self.rank_LQ == self.best_Q)
        return won

    def winners(self, query: int) -> tuple[str, ...]:
        """Names of the levels that win a query; none where no level covers the video."""
        return tuple(n for n, won in zip(self.levels, self.won_LQ[:, query], strict=True) if won)

    def totals(self) -> Sequence[LevelTotal]:
        """One total per level, in the order of the table."""
        winners_Q = self.won_LQ.sum(axis=0)
        beats_LQ = self.covered_LQ & (self.rank_LQ < self.fused_Q)
        return [
            LevelTotal(
                name,
                covered=int(covered_Q.sum()),
                won_alone=int((won_Q & (winners_Q == 1)).sum()),
                won_shared=int((won_Q & (winners_Q > 1)).sum()),
                wins=float((won_Q / np.maximum(winners_Q, 1)).sum()),
                beats_fusion=int(beats_Q.sum()),
            )
            for name, covered_Q, won_Q, beats_Q in zip(
                self.levels, self.covered_LQ, self.won_LQ, beats_LQ, strict=True
            )
        ]

    def fusion(self) -> FusionTotal:
        """Late fusion compared with the best level of each query."""
        covered_Q = np.isfinite(self.best_Q)
        return FusionTotal(
            better=int((covered_Q & (self.fused_Q < self.best_Q)).sum()),
            equal=int((covered_Q & (self.fused_Q == self.best_Q)).sum()),
            worse=int((covered_Q & (self.fused_Q > self.best_Q)).sum()),
            uncovered=int((~covered_Q).sum()),
        )
