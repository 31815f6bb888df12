"""Baselines for every model: zero-shot, and closed-form ridge regression. numpy only.

Ridge maps the pooled features of a level's streams, or of all streams concatenated, to the
captions' space, and scores by cosine after both means are subtracted. A missing stream is zero
after centring. The strength is chosen on the validation part. On a few hundred clips ridge is hard
to beat, and a network that doesn't beat it should say so (design 6).

Q queries, V or B videos, D width of the captions, X width of a level's features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import BoolArray, IntArray
from m2hf.errors import UsageError
from m2hf.features import unit_rows
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.gallery import Gallery
from m2hf.fuse.features.splits import TrainingSet, train_and_val
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.scores.metrics import text_to_video
from m2hf.fuse.scores.similarity_file import MISSING_SCORE, Baseline
from m2hf.manifest import Manifest, Split

Array = NDArray[np.float64]

STRENGTHS = tuple(10.0**power for power in range(-6, 2))  # times the largest eigenvalue

ZERO_SHOT, RIDGE = "zero_shot", "ridge_"  # the latter before the name of a level
CONCATENATED = f"{RIDGE}concatenated"

_CHUNK = 1024  # items or queries at a time


@dataclass(frozen=True, eq=False)
class PooledSplit:
    """One split, pooled: queries (Q, D) of norm 1, whether they have features, the ground truth,
    and features (V, ·) and presence (V,) by role."""

    queries_QD: Array
    present_Q: BoolArray
    video_of_query: IntArray
    pooled: dict[str, Array]
    present: dict[str, BoolArray]

    @classmethod
    def of(cls, gallery: Gallery, store: FeatureStore) -> Self:
        """The queries and videos of `gallery`, pooled."""
        return cls(
            queries_QD=unit_rows(_pooled(store, CAPTIONS, gallery.query_ids, first=1)),
            present_Q=store[CAPTIONS].present(gallery.query_ids),
            video_of_query=gallery.video_of_query,
            pooled={role: _pooled(store, role, gallery.video_ids) for role in store.video_roles},
            present={role: store[role].present(gallery.video_ids) for role in store.video_roles},
        )


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


def baseline_names(config: FusionConfig) -> list[str]:
    """`zero_shot`, `ridge_<level>` for each trained level and `ridge_concatenated`; no `zero_shot`
    where frames or captions are projected: without training nothing compares them."""
    ridges = [f"{RIDGE}{name}" for name in config.trained_levels]
    return [*([ZERO_SHOT] if config.comparable else []), *ridges, CONCATENATED]


def pooled_splits(
    manifest: Manifest, store: FeatureStore, config: FusionConfig, split: Split = "test"
) -> tuple[PooledSplit, PooledSplit, PooledSplit]:
    """What a model is fitted on, chosen on and scored on: train with the captions that a run
    trains on, the validation part, and `split`.

    Raises UsageError where training has no video with frames and a caption, and where one of the
    others has no caption.
    """
    scored = Gallery.of(manifest.split(split), store, split)
    return *_training_and_val(manifest, store, config), PooledSplit.of(scored, store)


def _training_and_val(
    manifest: Manifest, store: FeatureStore, config: FusionConfig
) -> tuple[PooledSplit, PooledSplit]:
    train_rows, val_rows = train_and_val(manifest, config.train.val_fraction)
    captions = TrainingSet.of(train_rows, store, config).captions
    if not captions:
        raise UsageError("split train: no video has frames and a caption in the store")
    train, val = Gallery.of_captions(captions), Gallery.of(val_rows, store, "val")
    return PooledSplit.of(train, store), PooledSplit.of(val, store)


def baselines(
    manifest: Manifest, store: FeatureStore, config: FusionConfig, split: Split = "test"
) -> Iterator[tuple[str, Baseline]]:
    """Each of `baseline_names` with its scores on the gallery of `split`, one at a time: its
    captions as queries against all its videos, in the order of the similarity file.

    Raises UsageError as `pooled_splits`.
    """
    train, val, test = pooled_splits(manifest, store, config, split)
    for name in baseline_names(config):
        if name == ZERO_SHOT:
            recall, _ = _result(_scores(*_zero_shot(val)), val, FRAMES)
            yield name, _baseline(_zero_shot(test), test, FRAMES, None, recall)
        else:
            roles, needed = _streams(config, store, name)
            yield name, _ridge(Ridge(train, roles), val, test, needed)


def validation_recalls(
    manifest: Manifest, store: FeatureStore, config: FusionConfig
) -> dict[str, float]:
    """T2V R@1 in percent of each of `baseline_names` on the validation part. Raises UsageError as
    `pooled_splits`."""
    train, val = _training_and_val(manifest, store, config)
    found: dict[str, float] = {}
    by_streams: dict[tuple[tuple[str, ...], str], float] = {}  # with one level, two are equal
    for name in baseline_names(config):
        if name == ZERO_SHOT:
            found[name] = _result(_scores(*_zero_shot(val)), val, FRAMES)[0]
            continue
        roles, needed = _streams(config, store, name)
        key = (tuple(roles), needed)
        if key not in by_streams:
            by_streams[key] = best_strength(Ridge(train, roles), val, needed)[1]
        found[name] = by_streams[key]
    return found


def _streams(config: FusionConfig, store: FeatureStore, name: str) -> tuple[Sequence[str], str]:
    """The roles that a ridge baseline reads, and the one that a video must have for a score."""
    if name == CONCATENATED:
        return store.video_roles, FRAMES
    level = config.trained_levels[name.removeprefix(RIDGE)]
    if level.fusion == "none":
        return (level.stream,), level.stream
    return (FRAMES, level.stream), FRAMES


def _zero_shot(part: PooledSplit) -> tuple[Array, Array]:
    """Sentences and mean frames, of norm 1."""
    return part.queries_QD, unit_rows(part.pooled[FRAMES])


def _ridge(ridge: Ridge, val: PooledSplit, test: PooledSplit, needed: str) -> Baseline:
    """With the best strength on validation."""
    strength, recall = best_strength(ridge, val, needed)
    return _baseline(ridge.embed(test, strength), test, needed, strength, recall)


def best_strength(ridge: Ridge, val: PooledSplit, needed: str) -> tuple[float, float]:
    """The strength of `STRENGTHS` with the best T2V R@1, then the best mean rank, on `val`, and
    that R@1 in percent. needed: the role that a video must have for a score."""
    results = {s: _result(_scores(*ridge.embed(val, s)), val, needed) for s in STRENGTHS}
    strength = max(STRENGTHS, key=lambda s: results[s])
    return strength, results[strength][0]


def _scores(queries_QD: Array, videos_VD: Array) -> Array:
    """(Q, V) cosines."""
    return queries_QD @ videos_VD.T


def _result(scores_QV: Array, part: PooledSplit, needed: str) -> tuple[float, float]:
    """T2V R@1 in percent, and minus the mean rank."""
    valid_QV = part.present_Q[:, None] & _valid(part, needed)
    masked_QV = np.where(valid_QV, scores_QV, MISSING_SCORE)
    metrics = text_to_video(masked_QV, part.video_of_query)
    return metrics.recall[1].expected, -metrics.mean_rank


def _baseline(
    embedded: tuple[Array, Array],
    part: PooledSplit,
    needed: str,
    strength: float | None,
    val_recall: float,
) -> Baseline:
    queries_QD, videos_VD = embedded
    scores_QV = np.empty((len(queries_QD), len(videos_VD)), np.float32)
    for start in range(0, len(queries_QD), _CHUNK):  # float64 scores of all queries may not fit
        rows = slice(start, start + _CHUNK)
        scores_QV[rows] = _scores(queries_QD[rows], videos_VD)
    valid_V = _valid(part, needed)
    scores_QV[:, ~valid_V] = MISSING_SCORE
    scores_QV[~part.present_Q] = MISSING_SCORE
    return Baseline(scores_QV, valid_V, strength, val_recall)


def _valid(part: PooledSplit, needed: str) -> BoolArray:
    """(V,) whether a video has what its score is computed from."""
    valid_V: BoolArray = part.present[FRAMES] & part.present[needed]
    return valid_V


def _pooled(store: FeatureStore, role: str, ids: Sequence[str], first: int | None = None) -> Array:
    """(B, D) mean over the (first) rows of each item; zeros for an item without rows."""
    pooled = [np.zeros((0, store[role].info.width))]
    for start in range(0, len(ids), _CHUNK):
        rows = store[role].gather(ids[start : start + _CHUNK], first=first)
        count_B1 = np.maximum(rows.mask_BN.sum(axis=1), 1)[:, None]
        pooled.append(rows.values_BND.sum(axis=1, dtype=np.float64) / count_B1)
    return np.concatenate(pooled)


def _mean(values_VX: Array, weight_V: IntArray) -> Array:
    mean_X: Array = weight_V @ values_VX / max(1, int(weight_V.sum()))
    return mean_X
