"""Calibration: a late fusion fitted to the scores of a validation part.

Slopes and biases are fitted to the mean contrastive loss of the captions plus a prior:

    sum_l (alpha_l + alpha'_l / L + (b_l - n_l)^2) / (captions whose video has level l)

in the units of the loss, where n_l is the neutral bias: with it a video of mean score gains nothing
over one without the level. alpha' is the slope within a mixture, whose own slope is a mean over
levels. So a level has to show its worth on more than a few captions, and with
many of them the prior has no effect.

L levels, Q queries, V videos.
"""

import numpy as np
import torch
from torch import Tensor

from m2hf.array_types import BoolArray, FloatArray, IntArray
from m2hf.fuse.model.contrastive import ContrastiveLoss
from m2hf.fuse.model.late_fusion import LATE_FUSIONS, LateFusion
from m2hf.fuse.scores.late_rules import Calibration

_STEPS = 200
_STEP_SIZE = 0.05
_SPREAD = 0.05  # of the scores that slopes start for: a slope of 1 in units of their deviation


def calibrate(
    late: LateFusion,
    scores_LQV: Tensor,
    valid_LV: Tensor,
    positives_QV: Tensor,
    contrast: ContrastiveLoss,
) -> None:
    """Fit slopes and biases to validation scores by the contrastive loss, at its present
    temperature, and the prior; no other parameter changes."""
    late.standardise(scores_LQV, valid_LV)
    if len(scores_LQV) < 2:
        return  # neither slope nor bias changes the order of one level's scores
    # Scores of other tools are on any scale, which a fit must not depend on.
    late.start(valid_LV.any(dim=1), torch.full_like(late.deviation_L, _SPREAD))
    available_V = valid_LV.any(dim=0)
    # The bias of a level that all videos or no video have does not change the loss: its
    # gradient is rounding error, of which Adam would make large steps.
    varies_L = valid_LV.any(dim=1) & ~valid_LV[:, available_V].all(dim=1)
    captions_L = (valid_LV * positives_QV.sum(dim=0)).sum(dim=1)
    fitted = list(late.parameters())
    optimiser = torch.optim.Adam(fitted, lr=_STEP_SIZE)
    for _ in range(_STEPS):
        value = late.loss(late(scores_LQV, valid_LV), positives_QV, available_V, contrast)
        value = value + _prior(late, captions_L, varies_L, contrast)
        for parameter, gradient in zip(fitted, torch.autograd.grad(value, fitted), strict=True):
            blind = parameter is late.bias_L
            parameter.grad = torch.where(varies_L, gradient, 0.0) if blind else gradient
        optimiser.step()
    optimiser.zero_grad()
    with torch.no_grad():
        late.silence(~valid_LV.any(dim=1))


def fit_calibration(
    rule: str,
    scores_LQV: FloatArray,
    valid_LV: BoolArray,
    video_of_query: IntArray,
) -> Calibration:
    """A trained rule, fitted to plain score matrices of a validation part."""
    late = LATE_FUSIONS[rule](len(scores_LQV))
    answers = torch.from_numpy(video_of_query)[:, None]
    positives_QV = answers == torch.arange(scores_LQV.shape[2])
    scores = torch.from_numpy(np.asarray(scores_LQV, dtype=np.float32))
    calibrate(late, scores, torch.from_numpy(valid_LV), positives_QV, ContrastiveLoss())
    return late.calibration()


def _prior(
    late: LateFusion, captions_L: Tensor, varies_L: Tensor, contrast: ContrastiveLoss
) -> Tensor:
    """The prior's part of what is minimised. captions_L: of videos that the level is valid
    for; varies_L: levels that only some videos have."""
    scale = late.scale(contrast).detach()
    away_L = torch.where(varies_L, scale * (late.bias_L - late.neutral_L), 0.0)
    slope_L = scale * late.alpha_L + late.mixture[0] / (captions_L > 0).sum().clamp(min=1)
    return ((slope_L + away_L**2) / captions_L.clamp(min=1)).sum()
