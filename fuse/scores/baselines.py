"""Baselines for every model: zero-shot, and closed-form ridge regression. numpy only.

Ridge is solved for the streams of each level, and for all streams joined. On a few hundred clips it
is hard to beat, and a network that doesn't beat it should say so (design 6).

Q queries, V videos, D width of the captions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from m2hf.errors import UsageError
from m2hf.features import unit_rows
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.scores.pooled import Array, PooledSplit, pooled_splits, training_and_val
from m2hf.fuse.scores.ridge import FittedRidge, Regressions
from m2hf.fuse.scores.similarity_file import MISSING_SCORE, Baseline
from m2hf.manifest import Manifest, Split

ZERO_SHOT = "zero_shot"
RIDGE, ZERO_SHOT_LEVEL = "ridge_", "zero_shot_"  # before the name of a level
CONCATENATED = f"{RIDGE}concatenated"

_CHUNK = 1024  # queries at a time


@dataclass(frozen=True, eq=False)
class Baselines:
    """The baselines of a run: its config, and its regressions, None where there is nothing to fit
    or to choose them on."""

    config: FusionConfig
    regressions: Regressions | None

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        store: FeatureStore,
        config: FusionConfig,
        on_remark: Callable[[str], None],
    ) -> Self:
        """Those that can be computed; `on_remark` is told which can't be, and why."""
        if not config.comparable:
            on_remark(
                f"no baseline {ZERO_SHOT}: frames or captions are projected (fuse.project), and "
                "without training nothing compares them"
            )
        try:
            return cls(config, Regressions(*training_and_val(manifest, store, config)))
        except UsageError as error:
            on_remark(f"no ridge baselines: {error}")
            return cls(config, None)

    @property
    def names(self) -> list[str]:
        """`zero_shot` of the frames, `zero_shot_<level>` for each level with a query role of its
        own, `ridge_<level>` for each trained level and `ridge_concatenated`; no zero-shot where
        either side is projected: without training nothing compares them."""
        ridges = [f"{RIDGE}{name}" for name in self.config.trained_levels]
        closed = [ZERO_SHOT] if self.config.comparable else []
        projected = set(self.config.project)
        for name, level in self.config.trained_levels.items():
            if level.query != CAPTIONS and not {level.query, level.stream} & projected:
                closed.append(f"{ZERO_SHOT_LEVEL}{name}")
        return [*closed, *ridges, CONCATENATED] if self.regressions is not None else closed

    def score(self, test: PooledSplit) -> Iterator[tuple[str, Baseline]]:
        """Each of `names` with its scores on `test`, one at a time: its captions as queries against
        all its videos, in the order of the similarity file."""
        for name in self.names:
            query, recall = self._query(name), self._val_recall(name)
            asked = test.asked(query)
            if not name.startswith(RIDGE):
                stream = self._zero_shot_stream(name)
                yield name, _baseline(_zero_shot(asked, stream), asked, stream, None, recall)
            else:
                fitted, needed = self._ridge(name)
                embedded = fitted.ridge.embed(asked, fitted.strength)
                yield name, _baseline(embedded, asked, needed, fitted.strength, recall)

    def val_recalls(self) -> dict[str, float]:
        """T2V R@1 in percent of each of `names` on the validation part; regressions are needed."""
        found = {name: self._val_recall(name) for name in self.names}
        return {name: recall for name, recall in found.items() if recall is not None}

    def _val_recall(self, name: str) -> float | None:
        if name.startswith(RIDGE):
            return self._ridge(name)[0].val_recall
        if self.regressions is None:
            return None
        val, stream = self.regressions.val.asked(self._query(name)), self._zero_shot_stream(name)
        queries_QD, videos_VD = _zero_shot(val, stream)
        return val.result(queries_QD @ videos_VD.T, stream)[0]

    def _query(self, name: str) -> str:
        """The query role of a baseline: that of its level, `captions` of the others."""
        level = self.config.trained_levels.get(level_of(name))
        return CAPTIONS if level is None else level.query

    def _zero_shot_stream(self, name: str) -> str:
        """The role that a zero-shot baseline compares with its queries."""
        return FRAMES if name == ZERO_SHOT else self.config.trained_levels[level_of(name)].stream

    def _ridge(self, name: str) -> tuple[FittedRidge, str]:
        """The regression of `name`, and the role that a video must have for a score."""
        assert self.regressions is not None
        roles, needed = self._streams(self.regressions, name)
        return self.regressions.asked(self._query(name)).fitted(roles, needed), needed

    def _streams(self, regressions: Regressions, name: str) -> tuple[Sequence[str], str]:
        """The roles that a ridge baseline reads, and the one that a video must have for a score."""
        if name == CONCATENATED:
            return list(regressions.train.pooled), FRAMES
        level = self.config.trained_levels[level_of(name)]
        if level.fusion == "none":
            return (level.stream,), level.stream
        return (FRAMES, level.stream), FRAMES


def baselines(
    manifest: Manifest, store: FeatureStore, config: FusionConfig, split: Split = "test"
) -> Iterator[tuple[str, Baseline]]:
    """Each baseline with its scores on the gallery of `split`. Raises UsageError as
    `pooled_splits`, where one can't be computed."""
    train, val, test = pooled_splits(manifest, store, config, split)
    return Baselines(config, Regressions(train, val)).score(test)


def level_of(name: str) -> str:
    """The level of a baseline of one level, or another name."""
    return name.removeprefix(RIDGE).removeprefix(ZERO_SHOT_LEVEL)


def _zero_shot(part: PooledSplit, stream: str) -> tuple[Array, Array]:
    """Sentences and the mean rows of a stream, of norm 1."""
    return part.queries_QD, unit_rows(part.pooled[stream])


def _baseline(
    embedded: tuple[Array, Array],
    part: PooledSplit,
    needed: str,
    strength: float | None,
    val_recall: float | None,
) -> Baseline:
    queries_QD, videos_VD = embedded
    scores_QV = np.empty((len(queries_QD), len(videos_VD)), np.float32)
    for start in range(0, len(queries_QD), _CHUNK):  # float64 scores of all queries may not fit
        rows = slice(start, start + _CHUNK)
        scores_QV[rows] = queries_QD[rows] @ videos_VD.T
    valid_V = part.valid_V(needed)
    scores_QV[:, ~valid_V] = MISSING_SCORE
    scores_QV[~part.present_Q] = MISSING_SCORE
    return Baseline(scores_QV, valid_V, strength, val_recall)
