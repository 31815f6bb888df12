"""Trained late fusion: a module for each late rule that has parameters (design 6; our reading).

z_l is the level's score minus its mean, divided by its standard deviation, both over available
videos of the validation part; a_l(v) is 1 where level l is valid for video v, and alpha > 0:

    affine   S = sum_l a_l(v) (alpha_l z_l + b_l)
    mention  S = sum_l a_l(v) (softplus(alpha_l z_l + c_l) + b_l)

A missing level adds nothing, and b_l learns what availability is worth. By `mention`, a caption
that doesn't speak of what a level knows leaves that level near its floor, where `affine` adds its
noise.

Slopes and biases are fitted to the mean contrastive loss of the captions plus a prior:

    sum_l (alpha_l + (b_l - n_l)^2) / (captions whose video has level l)

in the units of the loss, where n_l is the neutral bias: with it a video of mean score gains nothing
over one without the level. So a level has to show its worth on more than a few captions, and with
many of them the prior has no effect.

L levels, Q queries, B or V videos.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from m2hf.array_types import BoolArray, FloatArray, IntArray
from m2hf.fuse.model.contrastive import ContrastiveLoss, info_nce
from m2hf.fuse.scores.late_rules import FLAT, START_OFFSET, Calibration

_STEPS = 200
_STEP_SIZE = 0.05
_UNSEEN = -30.0  # slope before its positive function, and offset, of a level without a video
_START_SLOPE = 20.0  # of `mention`, a unit of score: 1 / temperature at the start


class LateFusion(nn.Module):
    """Slopes and biases of the levels; mean and standard deviation are buffers."""

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
        """(L,) slopes of the standard scores, positive."""
        raise NotImplementedError

    @property
    def offsets_L(self) -> Tensor:
        """(L,) what is added to a sloped standard score before softplus."""
        raise NotImplementedError

    def terms(self, scores_LQB: Tensor) -> Tensor:
        """(L, Q, B) what each level adds to S for a video that it is valid for."""
        raise NotImplementedError

    def scale(self, contrast: ContrastiveLoss) -> Tensor:
        """What S is multiplied by in the contrastive loss."""
        raise NotImplementedError

    @property
    def neutral_L(self) -> Tensor:
        """(L,) the bias with which a level adds 0 to S at its mean score."""
        raise NotImplementedError

    def start(self, available_L: Tensor) -> None:
        """Set slopes and biases to where training starts, given centre and deviation.
        available_L: levels that have a video."""
        raise NotImplementedError

    def silence(self, unseen_L: Tensor) -> None:
        """Let levels add about nothing."""
        raise NotImplementedError

    def forward(
        self, scores_LQB: Tensor, valid_LB: Tensor, kept_LQ: Tensor | None = None
    ) -> Tensor:
        """(Q, B) fused scores; 0 for a video without any valid level. kept_LQ: the levels that each
        query has; None for all."""
        counted = valid_LB.unsqueeze(1)
        if kept_LQ is not None:
            counted = counted & kept_LQ.unsqueeze(2)
        return torch.where(counted, self.terms(scores_LQB), 0.0).sum(dim=0)

    def standard(self, scores_LQB: Tensor) -> Tensor:
        """(L, Q, B) standard scores."""
        return (scores_LQB - _column(self.centre_L)) / _column(self.deviation_L)

    def loss(
        self, fused_QB: Tensor, positives_QB: Tensor, valid_B: Tensor, contrast: ContrastiveLoss
    ) -> Tensor:
        """The contrastive loss of fused scores, over videos that some level is valid for."""
        return info_nce(self.scale(contrast) * fused_QB[:, valid_B], positives_QB[:, valid_B])

    def calibration(self) -> Calibration:
        """The same numbers as numpy arrays, for rules on plain matrices."""
        numbers = (self.centre_L, self.deviation_L, self.alpha_L, self.bias_L, self.offsets_L)
        return Calibration(*(x.detach().cpu().numpy() for x in numbers))

    @torch.no_grad()
    def standardise(self, scores_LQV: Tensor, valid_LV: Tensor) -> None:
        """Set centre and deviation from these scores, over available videos, and slopes and biases
        to their start."""
        for level, (scores_QV, valid_V) in enumerate(zip(scores_LQV, valid_LV, strict=True)):
            known = scores_QV if valid_V.all() else scores_QV[:, valid_V]
            spread = float(known.std()) if known.numel() > 1 else 0.0
            self.centre_L[level] = known.mean() if known.numel() else 0.0
            self.deviation_L[level] = spread if spread > FLAT else 1.0
        self.start(valid_LV.any(dim=1))

    def calibrate(
        self, scores_LQV: Tensor, valid_LV: Tensor, positives_QV: Tensor, contrast: ContrastiveLoss
    ) -> None:
        """Fit slopes and biases to validation scores by the contrastive loss, at its present
        temperature, and the prior; no other parameter changes."""
        self.standardise(scores_LQV, valid_LV)
        if len(scores_LQV) < 2:
            return  # neither slope nor bias changes the order of one level's scores
        available_V = valid_LV.any(dim=0)
        # The bias of a level that all videos or no video have does not change the loss: its
        # gradient is rounding error, of which Adam would make large steps.
        varies_L = valid_LV.any(dim=1) & ~valid_LV[:, available_V].all(dim=1)
        captions_L = (valid_LV * positives_QV.sum(dim=0)).sum(dim=1)
        fitted = list(self.parameters())
        optimiser = torch.optim.Adam(fitted, lr=_STEP_SIZE)
        for _ in range(_STEPS):
            value = self.loss(self(scores_LQV, valid_LV), positives_QV, available_V, contrast)
            value = value + self._prior(captions_L, varies_L, contrast)
            for parameter, gradient in zip(fitted, torch.autograd.grad(value, fitted), strict=True):
                blind = parameter is self.bias_L
                parameter.grad = torch.where(varies_L, gradient, 0.0) if blind else gradient
            optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            self.silence(~valid_LV.any(dim=1))

    def _prior(self, captions_L: Tensor, varies_L: Tensor, contrast: ContrastiveLoss) -> Tensor:
        """The prior's part of what is minimised. captions_L: of videos that the level is valid
        for; varies_L: levels that only some videos have."""
        scale = self.scale(contrast).detach()
        away_L = torch.where(varies_L, scale * (self.bias_L - self.neutral_L), 0.0)
        return ((scale * self.alpha_L + away_L**2) / captions_L.clamp(min=1)).sum()


class AffineFusion(LateFusion):
    """Rule `affine`: a positive slope and a bias for each level; the loss has a temperature."""

    @property
    def alpha_L(self) -> Tensor:
        """(L,) slopes, by softplus."""
        return softplus(self.slope_L)

    @property
    def offsets_L(self) -> Tensor:
        """(L,) those at which `mention` starts: this rule has none."""
        return torch.full_like(self.slope_L, START_OFFSET)

    def terms(self, scores_LQB: Tensor) -> Tensor:
        """(L, Q, B) alpha z + b."""
        return _column(self.alpha_L) * self.standard(scores_LQB) + _column(self.bias_L)

    def scale(self, contrast: ContrastiveLoss) -> Tensor:
        """1 / temperature."""
        return contrast.scale

    @property
    def neutral_L(self) -> Tensor:
        """(L,) 0."""
        return torch.zeros_like(self.bias_L)

    @torch.no_grad()
    def start(self, available_L: Tensor) -> None:
        """One slope that gives S the spread of a mean of levels, so that a temperature that fits
        one level fits S."""
        typical = float(self.deviation_L[available_L].mean()) if available_L.any() else 1.0
        # Levels without any video are left out: the others are fitted as if they did not exist.
        self.slope_L.fill_(math.log(math.expm1(typical / max(1, int(available_L.sum())))))
        self.bias_L.zero_()

    def silence(self, unseen_L: Tensor) -> None:
        """A slope of about 0."""
        self.slope_L.masked_fill_(unseen_L, _UNSEEN)

    @torch.no_grad()
    def weigh(self, weight_L: Tensor, centre_L: Tensor) -> None:
        """Make S the sum of weight (score - centre), in place of what is fitted. weight_L > 0."""
        self.centre_L.copy_(centre_L)
        self.deviation_L.fill_(1.0)
        self.slope_L.copy_(weight_L + (-(-weight_L).expm1()).log())
        self.bias_L.zero_()


class MentionFusion(LateFusion):
    """Rule `mention`: a positive slope, an offset and a bias for each level. S is a sum of
    logarithms of 1 + odds, so the loss needs no temperature."""

    def __init__(self, levels: int) -> None:
        super().__init__(levels)
        self.offset_L = nn.Parameter(torch.full((levels,), START_OFFSET))

    @property
    def alpha_L(self) -> Tensor:
        """(L,) slopes, by the exponential function."""
        return self.slope_L.exp()

    @property
    def offsets_L(self) -> Tensor:
        """(L,) c."""
        return self.offset_L

    def terms(self, scores_LQB: Tensor) -> Tensor:
        """(L, Q, B) softplus(alpha z + c) + b."""
        odds_LQB = _column(self.alpha_L) * self.standard(scores_LQB) + _column(self.offset_L)
        return softplus(odds_LQB) + _column(self.bias_L)

    def scale(self, contrast: ContrastiveLoss) -> Tensor:
        """1."""
        return torch.ones_like(contrast.log_scale)

    @property
    def neutral_L(self) -> Tensor:
        """(L,) -softplus(c)."""
        return -softplus(self.offset_L)

    @torch.no_grad()
    def start(self, available_L: Tensor) -> None:
        """The slope of every level is that of a cosine at the first temperature."""
        self.slope_L.copy_((_START_SLOPE * self.deviation_L).log())
        self.offset_L.fill_(START_OFFSET)
        self.bias_L.zero_()

    def silence(self, unseen_L: Tensor) -> None:
        """A slope of about 0, at the floor of softplus."""
        self.slope_L.masked_fill_(unseen_L, _UNSEEN)
        self.offset_L.masked_fill_(unseen_L, _UNSEEN)


LATE_FUSIONS: dict[str, type[LateFusion]] = {"affine": AffineFusion, "mention": MentionFusion}


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
    late.calibrate(scores, torch.from_numpy(valid_LV), positives_QV, ContrastiveLoss())
    return late.calibration()


def _column(numbers_L: Tensor) -> Tensor:
    return numbers_L[:, None, None]
