"""What a network takes from the training part before the first step: ridge regression.

Projections (`fuse.project`) start at the closed form of `m2hf.fuse.scores.ridge`, its strength
chosen on validation. Scored by `mean`, a projected level then starts at the result of its ridge
baseline, since a linear map of mean rows is the mean of mapped rows; and as the best epoch on
validation is kept, it ends no lower there. Our reading.

Q queries, X or M width of a stream, D width of the captions, E joint width.
"""

from dataclasses import replace

import numpy as np
import torch

from m2hf.array_types import FloatArray
from m2hf.features import unit_rows
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.model.adapters import Projection
from m2hf.fuse.model.retriever import M2HF
from m2hf.fuse.scores.ridge import Regressions, Ridge


def starts_at_ridge(config: FusionConfig) -> bool:
    """Whether a network of `config` has projections that start at the ridge solution."""
    projected = set(config.project).intersection(config.joint_roles)
    return bool(projected) and config.model.projection == "ridge"


def start_at_ridge(model: M2HF, regressions: Regressions) -> None:
    """Set the projections of `model`, whose streams are standardised already."""
    config = model.config
    if CAPTIONS in config.project:
        _, weights_MD = _solution(FRAMES, regressions)
        mean_D = regressions.train.queries_QD.mean(axis=0)
        joint = _linear(model, CAPTIONS).out_features
        basis_DE = _leading(weights_MD, joint) if FRAMES in config.project else weights_MD.T
        _write(model, CAPTIONS, basis_DE, mean_D)
        mapped = (
            replace(part, queries_QD=(part.queries_QD - mean_D) @ basis_DE)
            for part in (regressions.train, regressions.val)
        )
        regressions = Regressions(*mapped)
    for role in config.joint_roles:
        if role in config.project and role != CAPTIONS:
            ridge, weights_ME = _solution(role, regressions)
            if config.comparable:  # captions aren't centred: their mean must favour no video
                mean_E = unit_rows(ridge.mean_D[None])
                weights_ME = weights_ME - weights_ME @ mean_E.T @ mean_E
            _write(model, role, weights_ME, ridge.centre[role])


def _solution(role: str, regressions: Regressions) -> tuple[Ridge, FloatArray]:
    """Ridge of the queries on one stream, and its weights (M, D), scaled so that projected
    training videos have norm 1 on average."""
    fitted, train = regressions.fitted([role], role), regressions.train
    ridge = fitted.ridge
    weights_MD = ridge.weights(fitted.strength) / ridge.scale[role]
    projected_VD = (train.pooled[role] - ridge.centre[role])[train.present[role]] @ weights_MD
    length = np.linalg.norm(projected_VD, axis=1).mean() if len(projected_VD) else 0.0
    return ridge, weights_MD / (length or 1.0)


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
