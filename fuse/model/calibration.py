"""Late fusion: S = sum_l a_l(v) (alpha_l z_l + b_l), alpha > 0 (design 6; our reading).

z_l is the level's score minus its mean, divided by its standard deviation, both over available
videos of the validation part; a_l(v) is 1 where level l is valid for video v. A missing level adds
nothing, which in standard scores is the mean, and b_l learns what availability is worth.

L levels, Q queries, B or V videos.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from m2hf.array_types import BoolArray, FloatArray, IntArray
from m2hf.fuse.model.contrastive import ContrastiveLoss
from m2hf.fuse.scores.late_rules import FLAT, Calibration

_STEPS = 200
_STEP_SIZE = 0.05
_UNSEEN = -30.0  # slope before softplus of a level without a validation video


class AffineCalibration(nn.Module):
    """A positive slope and a bias for each level; mean and standard deviation are buffers."""

    centre_L: Tensor
    deviation_L: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.slope_L = nn.Parameter(torch.zeros(levels))
        self.bias_L = nn.Parameter(torch.zeros(levels))
        self.register_buffer("centre_L", torch.zeros(levels))
        self.register_buffer("deviation_L", torch.ones(levels))

    @property
    def alpha_L(self) -> Tensor:
        """(L,) slopes, positive."""
        return softplus(self.slope_L)

    def calibration(self) -> Calibration:
        """The same numbers as numpy arrays, for rules on plain matrices."""
        numbers = (self.centre_L, self.deviation_L, self.alpha_L, self.bias_L)
        return Calibration(*(x.detach().cpu().numpy() for x in numbers))

    def forward(self, scores_LQB: Tensor, valid_LB: Tensor) -> Tensor:
        """(Q, B) fused scores; 0 for a video without any valid level."""
        centre, deviation, alpha, bias = (
            x[:, None, None] for x in (self.centre_L, self.deviation_L, self.alpha_L, self.bias_L)
        )
        terms_LQB = alpha * (scores_LQB - centre) / deviation + bias
        return torch.where(valid_LB.unsqueeze(1), terms_LQB, 0.0).sum(dim=0)

    @torch.no_grad()
    def standardise(self, scores_LQV: Tensor, valid_LV: Tensor) -> None:
        """Set centre and deviation from these scores, over available videos, and reset the slopes
        to one value that gives S the spread of a mean of levels, so that a temperature that fits
        one level fits S."""
        for level, (scores_QV, valid_V) in enumerate(zip(scores_LQV, valid_LV, strict=True)):
            known = scores_QV[:, valid_V]
            spread = float(known.std()) if known.numel() > 1 else 0.0
            self.centre_L[level] = known.mean() if known.numel() else 0.0
            self.deviation_L[level] = spread if spread > FLAT else 1.0
        available_L = valid_LV.any(dim=1)
        typical = float(self.deviation_L[available_L].mean()) if available_L.any() else 1.0
        # Levels without any video are left out: the others are fitted as if they did not exist.
        self.slope_L.fill_(math.log(math.expm1(typical / max(1, int(available_L.sum())))))
        self.bias_L.zero_()

    def calibrate(
        self, scores_LQV: Tensor, valid_LV: Tensor, positives_QV: Tensor, loss: ContrastiveLoss
    ) -> None:
        """Fit slopes and biases to validation scores by the contrastive loss, at its present
        temperature; no other parameter changes."""
        self.standardise(scores_LQV, valid_LV)
        available_V = valid_LV.any(dim=0)
        # The bias of a level that all videos or no video have does not change the loss: its
        # gradient is rounding error, of which Adam would make large steps.
        varies_L = valid_LV.any(dim=1) & ~valid_LV[:, available_V].all(dim=1)
        fitted = [self.slope_L, self.bias_L]
        optimiser = torch.optim.Adam(fitted, lr=_STEP_SIZE)
        for _ in range(_STEPS):
            value = loss(self(scores_LQV, valid_LV), positives_QV, available_V)
            gradients = torch.autograd.grad(value, fitted)
            self.slope_L.grad = gradients[0]
            self.bias_L.grad = torch.where(varies_L, gradients[1], 0.0)
            optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():  # a level without a validation video gets a slope of about 0
            self.slope_L.masked_fill_(~valid_LV.any(dim=1), _UNSEEN)


def fit_calibration(
    scores_LQV: FloatArray,
    valid_LV: BoolArray,
    video_of_query: IntArray,
) -> Calibration:
    """The affine rule, fitted to plain score matrices of a validation part."""
    late = AffineCalibration(len(scores_LQV))
    answers = torch.from_numpy(video_of_query)[:, None]
    positives_QV = answers == torch.arange(scores_LQV.shape[2])
    scores = torch.from_numpy(np.asarray(scores_LQV, dtype=np.float32))
    late.calibrate(scores, torch.from_numpy(valid_LV), positives_QV, ContrastiveLoss())
    return late.calibration()
