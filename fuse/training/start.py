"""What a network takes from the training part before the first step: ridge regression.

Projections (`fuse.project`) start at the closed form of `m2hf.fuse.scores.ridge`, its strength
chosen on validation. Scored by `mean`, a projected level then starts at the result of its ridge
baseline, since a linear map of mean rows is the mean of mapped rows; and as the best epoch on
validation is kept, it ends no lower there. Our reading.

Q queries, X or M width of a stream, D width of the captions, E joint width.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from m2hf.array_types import FloatArray
from m2hf.features import unit_rows
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.level_table import FRAMES
from m2hf.fuse.model.adapters import Projection
from m2hf.fuse.model.early import AlignedFusion
from m2hf.fuse.model.retriever import M2HF
from m2hf.fuse.model.tokens import Tokens
from m2hf.fuse.scores.pooled import Array, PooledSplit
from m2hf.fuse.scores.ridge import Regressions, Ridge, best_strength


def starts_at_ridge(config: FusionConfig) -> bool:
    """Whether a network of `config` has projections that start at the ridge solution."""
    projected = set(config.project).intersection(config.joint_roles)
    return bool(projected) and config.model.projection == "ridge"


def start_at_ridge(model: M2HF, regressions: Regressions) -> None:
    """Set the projections of `model`, whose streams are standardised already."""
    for query in dict.fromkeys(model.config.spaces.values()):
        _start_space(model, query, regressions.asked(query))


def _start_space(model: M2HF, query: str, regressions: Regressions) -> None:
    """Set the projections to the space of a query role. regressions: of its captions."""
    config = model.config
    if query in config.project:
        anchor = config.anchor(query)
        _, weights_MD, _ = _solution(anchor, regressions)
        mean_D = regressions.train.queries_QD.mean(axis=0)
        joint = _linear(model, query).out_features
        basis_DE = _leading(weights_MD, joint) if anchor in config.project else weights_MD.T
        _write(model, query, basis_DE, mean_D)
        mapped = (
            replace(part, queries_QD=(part.queries_QD - mean_D) @ basis_DE)
            for part in (regressions.train, regressions.val)
        )
        regressions = Regressions(*mapped)
    for role in (role for role, space in config.spaces.items() if space == query != role):
        if role in config.project:
            ridge, weights_ME, length = _solution(role, regressions)
            if config.comparable_by(
                query
            ):  # captions aren't centred: their mean must favour no video
                mean_E = unit_rows(ridge.mean_D[None])
                weights_ME = weights_ME - weights_ME @ mean_E.T @ mean_E
            _write(model, role, weights_ME, ridge.centre[role])
            if role == FRAMES:
                explained = [
                    _unexplained(part, ridge, length * weights_ME)
                    for part in (regressions.train, regressions.val)
                ]
                for name, fusion in model.levels.early.items():
                    if isinstance(fusion, AlignedFusion):
                        stream = config.trained_levels[name].stream
                        _start_pooled(model, fusion, stream, length, *explained)


def _solution(role: str, regressions: Regressions) -> tuple[Ridge, FloatArray, float]:
    """Ridge of the queries on one stream, its weights (M, D), scaled so that projected training
    videos have norm 1 on average, and the mean norm before that."""
    fitted, train = regressions.fitted([role], role), regressions.train
    ridge = fitted.ridge
    weights_MD = ridge.weights(fitted.strength) / ridge.scale[role]
    projected_VD = (train.pooled[role] - ridge.centre[role])[train.present[role]] @ weights_MD
    length = float(np.linalg.norm(projected_VD, axis=1).mean()) if len(projected_VD) else 0.0
    return ridge, weights_MD / (length or 1.0), length or 1.0


@dataclass(frozen=True, eq=False)
class _Residual:
    """A part of the data beside what ridge on frames gives: predicted (V, D) by the frames, zero
    without them; centred (Q, D) queries; the part, whose queries are what is left of them."""

    predicted_VD: Array
    centred_QD: Array
    part: PooledSplit


def _unexplained(part: PooledSplit, ridge: Ridge, weights_MD: FloatArray) -> _Residual:
    there_V1 = part.present[FRAMES][:, None]
    projected_VD = (part.pooled[FRAMES] - ridge.centre[FRAMES]) @ weights_MD
    predicted_VD: Array = np.where(there_V1, projected_VD, 0.0)
    centred_QD = part.queries_QD - ridge.mean_D
    left_QD = centred_QD - predicted_VD[part.video_of_query]
    return _Residual(predicted_VD, centred_QD, replace(part, queries_QD=left_QD))


def _start_pooled(
    model: M2HF,
    fusion: AlignedFusion,
    stream: str,
    length: float,
    train: _Residual,
    val: _Residual,
) -> None:
    """Set the pooled path of `fusion` to ridge of the residual on its normed stream, with the
    strength that is best on validation, if that is better than without the stream.

    length: the mean norm of the frames' predictions, which `model` scales to 1.
    """
    seen = [
        replace(x.part, pooled={stream: _normed(model, fusion, stream, x.part)})
        for x in (train, val)
    ]
    ridge = Ridge(seen[0], [stream])
    there_V1 = val.part.present[stream][:, None]
    features_VM = np.where(there_V1, seen[1].pooled[stream] - ridge.centre[stream], 0.0)
    queries_QD = unit_rows(val.centred_QD)
    norm, linear = fusion.pooled_parts

    def scores(strength: float) -> Array:
        weights_MD = ridge.weights(strength) / ridge.scale[stream]
        scores_QV: Array = queries_QD @ unit_rows(val.predicted_VD + features_VM @ weights_MD).T
        return scores_QV

    strength, result = best_strength(scores, val.part, FRAMES)
    if result > val.part.result(queries_QD @ unit_rows(val.predicted_VD).T, FRAMES):
        weights_MD = ridge.weights(strength) / ridge.scale[stream]
        with torch.no_grad():
            norm.bias.copy_(torch.from_numpy(-ridge.centre[stream]))
            linear.weight.copy_(torch.from_numpy((weights_MD / length).T))


@torch.no_grad()
def _normed(model: M2HF, fusion: AlignedFusion, stream: str, part: PooledSplit) -> Array:
    """(V, M) the stream as the pooled path of `fusion` reads it, before the shift of its norm."""
    norm, linear = fusion.pooled_parts
    rows_V1M = torch.from_numpy(part.pooled[stream]).to(linear.weight)[:, None]
    tokens = Tokens(rows_V1M, torch.ones(rows_V1M.shape[:2]).bool(), rows_V1M[..., 0])
    if stream in model.standardisers:
        tokens = model.standardisers[stream](tokens)
    normed: Array = norm(tokens.values)[:, 0].double().cpu().numpy()
    return normed


def _leading(weights_MD: FloatArray, joint: int) -> FloatArray:
    """(D, E) directions of the captions to keep: all where there is room, the rest of E zeros, or
    else those in which projected videos differ most."""
    width = weights_MD.shape[1]
    if joint >= width:
        return np.eye(width, joint)
    directions_DD: FloatArray = np.linalg.svd(weights_MD.T)[0]
    return directions_DD[:, :joint]


def _write(model: M2HF, role: str, weights_ME: FloatArray, centre_M: FloatArray) -> None:
    """Make the projection of `role` x -> (x - centre) weights, x before it is standardised."""
    mean_M, deviation_M = np.zeros(len(centre_M)), np.ones(len(centre_M))
    if role in model.standardisers:
        fitted = model.standardisers[role]
        mean_M, deviation_M = (x.cpu().numpy().astype(np.float64) for x in fitted.buffers())
    linear = _linear(model, role)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy((deviation_M[:, None] * weights_ME).T))
        linear.bias.copy_(torch.from_numpy((mean_M - centre_M) @ weights_ME))


def _linear(model: M2HF, role: str) -> torch.nn.Linear:
    projection = model.adapters[role]
    assert isinstance(projection, Projection)
    return projection.linear
