"""Baselines that belong beside every model: zero-shot, and closed-form ridge. numpy only.

Ridge maps the pooled features of a level's streams, or of all streams side by side, to the
captions' space, and scores by the cosine of what is left after both means are taken away. A
missing stream is zeros after centring. The strength is chosen on the validation part. On a few
hundred clips ridge is hard to beat, and a network that doesn't says so (design 6).

Q queries, V or B videos, D width of the captions, X width of a level's features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import BoolArray, IntArray
from m2hf.errors import UsageError
from m2hf.fuse.config import CAPTIONS, FRAMES, FusionConfig
from m2hf.fuse.features.splits import TrainingSet, train_and_val
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.scores.metrics import text_to_video
from m2hf.manifest import Caption, Manifest, Row, Split, captions_of

Array = NDArray[np.float64]

STRENGTHS = tuple(10.0**power for power in range(-6, 2))  # of the largest eigenvalue
LOWEST = -1.0  # as in the model: what a video or a query that is missing scores

_AT_A_TIME = 1024


@dataclass(frozen=True, eq=False)
class Baseline:
    """scores (Q, V) float32 in [-1, 1], -1 where video or query is missing; valid (V,);
    strength: of ridge, None for zero-shot; val_recall: T2V R@1 in percent on validation."""

    scores_QV: NDArray[np.float32]
    valid_V: BoolArray
    strength: float | None
    val_recall: float


@dataclass(frozen=True, eq=False)
class _Part:
    """One split: queries (Q, D) of length 1 and whether they are there, index of each answer,
    and pooled features (V, ·) and presence (V,) by role."""

    queries_QD: Array
    asked_Q: BoolArray
    answers_Q: IntArray
    pooled: dict[str, Array]
    present: dict[str, BoolArray]

    @classmethod
    def of(cls, rows: Sequence[Row], captions: Sequence[Caption], store: FeatureStore) -> Self:
        videos = [row.id for row in rows]
        place = {video: index for index, video in enumerate(videos)}
        ids = [caption.id for caption in captions]
        return cls(
            queries_QD=_unit(_pooled(store, CAPTIONS, ids, first=1)),
            asked_Q=store[CAPTIONS].present(ids),
            answers_Q=np.array([place[c.video] for c in captions], dtype=np.int64),
            pooled={role: _pooled(store, role, videos) for role in store.video_roles},
            present={role: store[role].present(videos) for role in store.video_roles},
        )


class Ridge:
    """Ridge regression of captions on pooled streams, at any strength."""

    def __init__(self, train: _Part, roles: Sequence[str]) -> None:
        self.roles = roles
        counts_V = np.bincount(train.answers_Q, minlength=len(train.present[FRAMES]))
        self.centre = {r: _mean(train.pooled[r], counts_V * train.present[r]) for r in roles}
        self.size: dict[str, float] = {}
        for role in roles:  # streams of any scale weigh alike
            apart = (train.pooled[role] - self.centre[role])[train.present[role]]
            length = float(np.sqrt(np.square(apart).sum(axis=1).mean())) if len(apart) else 0.0
            self.size[role] = length or 1.0
        self.mean_D: Array = train.queries_QD.mean(axis=0)
        x_VX = self._features(train)
        targets_VD = np.zeros((len(x_VX), len(self.mean_D)))
        np.add.at(targets_VD, train.answers_Q, train.queries_QD - self.mean_D)
        spectrum, self.basis_XX = np.linalg.eigh((x_VX * counts_V[:, None]).T @ x_VX)
        self.spectrum_X: Array = np.maximum(spectrum, 0.0)
        self.target_XD: Array = self.basis_XX.T @ (x_VX.T @ targets_VD)

    def weights(self, strength: float) -> Array:
        """(X, D) (X'X + k I)^-1 X'T with k = strength times the largest eigenvalue."""
        k = strength * (float(self.spectrum_X.max()) or 1.0)
        weights_XD: Array = self.basis_XX @ (self.target_XD / (self.spectrum_X + k)[:, None])
        return weights_XD

    def scores(self, part: _Part, strength: float) -> Array:
        """(Q, V) cosines."""
        predicted_VD = _unit(self._features(part) @ self.weights(strength))
        return _unit(part.queries_QD - self.mean_D) @ predicted_VD.T

    def _features(self, part: _Part) -> Array:
        columns = [
            np.where(
                part.present[role][:, None],
                (part.pooled[role] - self.centre[role]) / self.size[role],
                0.0,
            )
            for role in self.roles
        ]
        return np.concatenate(columns, axis=1)


def baselines(
    manifest: Manifest, store_root: Path, config: FusionConfig, split: Split = "test"
) -> dict[str, Baseline]:
    """`zero_shot`, `ridge_<level>` and `ridge_concatenated` on the gallery of `split`: its
    captions as queries against all its videos, in the order of the similarity file. There is no
    `zero_shot` where frames or captions are projected: nothing compares them untrained.

    Raises UsageError where training has no video with frames and a caption.
    """
    store = FeatureStore.open(store_root, manifest.card.name, config)
    train_rows, val_rows = train_and_val(manifest, config.train.val_fraction)
    captions = TrainingSet.of(train_rows, store, config).captions
    if not captions:
        raise UsageError("split train: no video has frames and a caption in the store")
    train = _Part.of(train_rows, captions, store)
    val, test = (
        _Part.of(rows, list(captions_of(rows)), store) for rows in (val_rows, manifest.split(split))
    )
    comparable = not {FRAMES, CAPTIONS} & set(config.project)
    found = {"zero_shot": _zero_shot(val, test)} if comparable else {}
    roles = {"concatenated": store.video_roles}
    roles = {name: _streams(config, name) for name in config.active_levels} | roles
    for name, read in roles.items():
        alone = name in config.active_levels and config.active_levels[name].fusion == "none"
        found[f"ridge_{name}"] = _ridge(
            Ridge(train, read), val, test, read[-1] if alone else FRAMES
        )
    return found


def _streams(config: FusionConfig, level: str) -> tuple[str, ...]:
    row = config.active_levels[level]
    return (row.stream,) if row.fusion == "none" else (FRAMES, row.stream)


def _zero_shot(val: _Part, test: _Part) -> Baseline:
    """Cosine of the sentence with the mean frame."""

    def score(part: _Part) -> Array:
        return part.queries_QD @ _unit(part.pooled[FRAMES]).T

    return _baseline(score(test), test, FRAMES, None, _recall(score(val), val, FRAMES)[0])


def _ridge(ridge: Ridge, val: _Part, test: _Part, needs: str) -> Baseline:
    """At the strength with the best R@1, then the best mean rank, on validation."""
    results = {s: _recall(ridge.scores(val, s), val, needs) for s in STRENGTHS}
    strength = max(STRENGTHS, key=lambda s: results[s])
    return _baseline(ridge.scores(test, strength), test, needs, strength, results[strength][0])


def _recall(scores_QV: Array, part: _Part, needs: str) -> tuple[float, float]:
    """T2V R@1 in percent, and less the mean rank."""
    metrics = text_to_video(_masked(scores_QV, part, needs), part.answers_Q)
    return metrics.recall[1].expected, -metrics.mean_rank


def _baseline(
    scores_QV: Array, part: _Part, needs: str, strength: float | None, val_recall: float
) -> Baseline:
    valid_V = part.present[FRAMES] & part.present[needs]
    masked = _masked(scores_QV, part, needs).astype(np.float32)
    return Baseline(masked, valid_V, strength, val_recall)


def _masked(scores_QV: Array, part: _Part, needs: str) -> Array:
    known_V = part.present[FRAMES] & part.present[needs]
    masked: Array = np.where(part.asked_Q[:, None] & known_V, scores_QV, LOWEST)
    return masked


def _pooled(store: FeatureStore, role: str, ids: Sequence[str], first: int | None = None) -> Array:
    """(B, D) mean over the (first) rows of each item; zeros for one without any."""
    pooled = [np.zeros((0, store[role].info.width))]
    for part in _chunks(ids):
        rows = store[role].gather(part, first=first)
        count_B1 = np.maximum(rows.mask_BN.sum(axis=1), 1)[:, None]
        pooled.append(rows.values_BND.sum(axis=1, dtype=np.float64) / count_B1)
    return np.concatenate(pooled)


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _AT_A_TIME):
        yield ids[start : start + _AT_A_TIME]


def _mean(values_VX: Array, weight_V: IntArray) -> Array:
    mean_X: Array = weight_V @ values_VX / max(1, int(weight_V.sum()))
    return mean_X


def _unit(x_BD: Array) -> Array:
    length_B1 = np.linalg.norm(x_BD, axis=1, keepdims=True)
    unit_BD: Array = x_BD / np.where(length_B1 > 1e-12, length_B1, 1.0)
    return unit_BD
