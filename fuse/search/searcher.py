"""Search: encode a query, score the gallery, and find the evidence in the best videos.

L levels, V videos.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import BoolArray
from m2hf.errors import UsageError
from m2hf.features import Features
from m2hf.fuse.scores.late_rules import FLAT
from m2hf.fuse.search.evidence import Evidence, MatchedRow
from m2hf.fuse.search.index import QueryScores, SearchIndex
from m2hf.fuse.search.origins import Origins
from m2hf.fuse.search.query import checked, script_remark, scripts
from m2hf.fuse.search.results import Hit, LevelMatch, SearchResults

Encode = Callable[[str], Features]


@dataclass(frozen=True, eq=False)
class Searcher:
    """encoders: by query role, give a query the features of a caption, with the training captions'
    encoder; captions: texts of the manifest, whose script a query should be in."""

    index: SearchIndex
    encoders: Mapping[str, Encode]
    captions: tuple[str, ...] = ()

    def search(self, text: str, top: int) -> SearchResults:
        """The `top` best videos for `text`, or all that can be found if fewer.

        Raises UsageError for a query that `checked` refuses, or that the encoder can't encode.
        """
        text = checked(text)
        query = {role: encode(text) for role, encode in self.encoders.items()}
        for features in query.values():
            if not len(features.values):
                raise UsageError(f"the query can't be encoded: {features.reason}")
        scores = self.index.scores(query)
        covered_V = self.index.covered_V
        order_V = np.argsort(-scores.fused_V, kind="stable")
        best = [int(v) for v in order_V[covered_V[order_V]][:top]]
        evidence = Evidence.of(self.index, query, [self.index.ids[v] for v in best])
        hits = [
            self._hit(rank, video, scores, found)
            for rank, (video, found) in enumerate(zip(best, evidence, strict=True), start=1)
        ]
        remarks = [script_remark(text, self._scripts)]
        reasons = dict.fromkeys(features.reason for features in query.values())
        remarks += [f"the query: {reason}" for reason in reasons if reason]
        return SearchResults(
            query=text,
            dataset=self.index.layout.dataset,
            videos=int(covered_V.sum()),
            unseen=int((~covered_V).sum()),
            rule=self.index.model.late_rule,
            remarks=[remark for remark in remarks if remark],
            flags=self.index.flags,
            hits=hits,
        )

    def _hit(self, rank: int, video: int, scores: QueryScores, found: Evidence) -> Hit:
        relative_L = _relative(scores.levels_LV, self.index.valid_LV, video)
        levels = {
            name: self._level(name, video, float(score), float(relative), found.levels.get(name))
            if covered
            else None
            for name, score, relative, covered in zip(
                self.index.model.level_names,
                scores.levels_LV[:, video],
                relative_L,
                self.index.valid_LV[:, video],
                strict=True,
            )
        }
        score = float(scores.fused_V[video])
        return Hit(rank, self.index.rows[video], score, found.frame, levels)

    def _level(
        self, name: str, video: int, score: float, relative: float, row: MatchedRow | None
    ) -> LevelMatch:
        if row is None or not row.text:
            return LevelMatch(name, score, relative, None if row is None else row.moment)
        moment = row.moment
        origin = self._origins[name].of_line(
            self.index.ids[video], row.text, moment.start_s, moment.end_s
        )
        return LevelMatch(name, score, relative, moment, row.text, origin)

    @cached_property
    def _scripts(self) -> set[str]:
        return scripts(self.captions)

    @cached_property
    def _origins(self) -> dict[str, Origins]:
        index = self.index
        levels = index.config.active_levels.items()
        alone = {name: level.stream for name, level in levels if level.fusion in ("none", "words")}
        return {n: Origins.of(index.layout, index.store[role].header) for n, role in alone.items()}


def _relative(
    levels_LV: NDArray[np.float32], valid_LV: BoolArray, video: int
) -> NDArray[np.float32]:
    """(L,) a video's scores rescaled from 0, the lowest, to 1, the highest, of the videos that each
    level covers; 1 where all are equal, 0 where the level doesn't cover the video."""
    highest_L = np.where(valid_LV, levels_LV, -np.inf).max(axis=1)
    lowest_L = np.where(valid_LV, levels_LV, np.inf).min(axis=1)
    range_L = highest_L - lowest_L
    flat_L = ~(range_L > FLAT)
    share_L = (levels_LV[:, video] - lowest_L) / np.where(flat_L, 1.0, range_L)
    relative_L: NDArray[np.float32] = np.where(
        valid_LV[:, video], np.where(flat_L, 1.0, share_L), 0.0
    )
    return relative_L
