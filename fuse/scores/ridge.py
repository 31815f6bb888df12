"""Closed-form ridge regression of captions on the pooled features of videos. numpy only.

It maps the streams of a level, or all streams joined, to the captions' space, and scores by cosine
after both means are subtracted. A missing stream is zero after centring. The strength is chosen on
the validation part.

Q queries, V videos, D width of the captions, X width of the joined streams.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from m2hf.array_types import IntArray
from m2hf.features import unit_rows
from m2hf.fuse.level_table import FRAMES
from m2hf.fuse.scores.pooled import Array, PooledSplit

STRENGTHS = tuple(10.0**power for power in range(-6, 2))  # times the largest eigenvalue


class Ridge:
    """Ridge regression of captions on pooled streams, solved for any strength."""

    def __init__(self, train: PooledSplit, roles: Sequence[str]) -> None:
        self.roles = roles
        counts_V = np.bincount(train.video_of_query, minlength=len(train.present[FRAMES]))
        self.centre = {r: _mean(train.pooled[r], counts_V * train.present[r]) for r in roles}
        self.scale: dict[str, float] = {}
        for role in roles:  # streams of any scale get equal weight
            centred = (train.pooled[role] - self.centre[role])[train.present[role]]
            norm = float(np.sqrt(np.square(centred).sum(axis=1).mean())) if len(centred) else 0.0
            self.scale[role] = norm or 1.0
        self.mean_D: Array = train.queries_QD.mean(axis=0)
        x_VX = self._features(train)
        targets_VD = np.zeros((len(x_VX), len(self.mean_D)))
        np.add.at(targets_VD, train.video_of_query, train.queries_QD - self.mean_D)
        spectrum, self.basis_XX = np.linalg.eigh((x_VX * counts_V[:, None]).T @ x_VX)
        self.spectrum_X: Array = np.maximum(spectrum, 0.0)
        self.target_XD: Array = self.basis_XX.T @ (x_VX.T @ targets_VD)

    def weights(self, strength: float) -> Array:
        """(X, D) (X'X + k I)^-1 X'T with k = strength times the largest eigenvalue."""
        k = strength * (float(self.spectrum_X.max()) or 1.0)
        weights_XD: Array = self.basis_XX @ (self.target_XD / (self.spectrum_X + k)[:, None])
        return weights_XD

    def embed(self, part: PooledSplit, strength: float) -> tuple[Array, Array]:
        """Queries (Q, D) and videos (V, D) of norm 1, whose products are the scores."""
        videos_VD = unit_rows(self._features(part) @ self.weights(strength))
        return unit_rows(part.queries_QD - self.mean_D), videos_VD

    def _features(self, part: PooledSplit) -> Array:
        columns = [
            np.where(
                part.present[role][:, None],
                (part.pooled[role] - self.centre[role]) / self.scale[role],
                0.0,
            )
            for role in self.roles
        ]
        return np.concatenate(columns, axis=1)


def best_strength(
    scores: Callable[[float], Array], val: PooledSplit, needed: str
) -> tuple[float, tuple[float, float]]:
    """The strength of `STRENGTHS` whose scores (Q, V) have the best result on `val`, and that
    result. needed: the role that a video must have for a score."""
    results = {strength: val.result(scores(strength), needed) for strength in STRENGTHS}
    best = max(STRENGTHS, key=results.__getitem__)
    return best, results[best]


@dataclass(frozen=True, eq=False)
class FittedRidge:
    """A regression, the strength that is best on the validation part, and its T2V R@1 there, in
    percent."""

    ridge: Ridge
    strength: float
    val_recall: float


class Regressions:
    """Ridge regressions of one training part, chosen on `val`, each solved once."""

    def __init__(self, train: PooledSplit, val: PooledSplit) -> None:
        self.train, self.val = train, val
        self._fitted: dict[tuple[tuple[str, ...], str], FittedRidge] = {}
        self._asked: dict[str, Self] = {}

    def asked(self, query: str) -> Self:
        """Those of the captions of another query role."""
        if query == self.train.query:
            return self
        if query not in self._asked:
            self._asked[query] = type(self)(self.train.asked(query), self.val.asked(query))
        return self._asked[query]

    def fitted(self, roles: Sequence[str], needed: str) -> FittedRidge:
        """On the streams of `roles`; needed: the role that a video must have for a score."""
        key = (tuple(roles), needed)
        if key not in self._fitted:
            ridge = Ridge(self.train, roles)

            def scores(strength: float) -> Array:
                queries_QD, videos_VD = ridge.embed(self.val, strength)
                scores_QV: Array = queries_QD @ videos_VD.T
                return scores_QV

            strength, (recall, _) = best_strength(scores, self.val, needed)
            self._fitted[key] = FittedRidge(ridge, strength, recall)
        return self._fitted[key]


def _mean(values_VX: Array, weight_V: IntArray) -> Array:
    mean_X: Array = weight_V @ values_VX / max(1, int(weight_V.sum()))
    return mean_X
