"""Trained late fusion: a module for each late rule that has parameters (design 6; our reading).

z_l is the level's score minus its mean, divided by its standard deviation, both over available
videos of the validation part; a_l(v) is 1 where level l is valid for video v, and alpha > 0:

    affine           S = sum_l a_l(v) (alpha_l z_l + b_l)
    mention          S = sum_l a_l(v) (softplus(alpha_l z_l + c_l) + b_l)
    mention_mixture  S = mention + log sum_l a_l(v) exp(alpha'_l z_l + c'_l)

A missing level adds nothing, and b_l learns what availability is worth. By `mention`, a caption
that doesn't speak of what a level knows leaves that level near its floor, where `affine` adds its
noise. The log of a mixture lets the level that is surest answer alone, as an expert, where in a sum
the noise of several others can outvote it.

L levels, Q queries, B or V videos.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from m2hf.fuse.model.contrastive import ContrastiveLoss, info_nce
from m2hf.fuse.scores.late_rules import FLAT, START_OFFSET, Calibration

_UNSEEN = -30.0  # slope before its positive function, and offset, of a level without a video
_NEVER = -1e4  # offset within the mixture of a level without a video
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

    @property
    def mixture(self) -> tuple[Tensor, Tensor]:
        """(L,) positive slopes and (L,) offsets of the standard scores within a mixture; 1 and 0
        for a rule that has none."""
        return torch.ones_like(self.slope_L), torch.zeros_like(self.slope_L)

    def terms(self, scores_LQB: Tensor, counted_LQB: Tensor) -> Tensor:
        """(L, Q, B) what each level adds to S, undefined where it isn't counted. counted_LQB: bool,
        where a level takes part."""
        raise NotImplementedError

    def scale(self, contrast: ContrastiveLoss) -> Tensor:
        """What S is multiplied by in the contrastive loss."""
        raise NotImplementedError

    @property
    def neutral_L(self) -> Tensor:
        """(L,) the bias with which a level adds 0 to S at its mean score."""
        raise NotImplementedError

    def start(self, available_L: Tensor, spread_L: Tensor) -> None:
        """Set slopes and biases to where training starts. available_L: levels that have a video;
        spread_L: deviations of their scores."""
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
        counted = counted.expand_as(scores_LQB)
        return torch.where(counted, self.terms(scores_LQB, counted), 0.0).sum(dim=0)

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
        return Calibration(*(x.detach().cpu().numpy() for x in (*numbers, *self.mixture)))

    @torch.no_grad()
    def standardise(self, scores_LQV: Tensor, valid_LV: Tensor) -> None:
        """Set centre and deviation from these scores, over available videos, and slopes and biases
        to their start."""
        for level, (scores_QV, valid_V) in enumerate(zip(scores_LQV, valid_LV, strict=True)):
            known = scores_QV if valid_V.all() else scores_QV[:, valid_V]
            spread = float(known.std()) if known.numel() > 1 else 0.0
            self.centre_L[level] = known.mean() if known.numel() else 0.0
            self.deviation_L[level] = spread if spread > FLAT else 1.0
        self.start(valid_LV.any(dim=1), self.deviation_L)


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

    def terms(self, scores_LQB: Tensor, counted_LQB: Tensor) -> Tensor:
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
    def start(self, available_L: Tensor, spread_L: Tensor) -> None:
        """One slope that gives S the spread of a mean of levels, so that a temperature that fits
        one level fits S."""
        typical = float(spread_L[available_L].mean()) if available_L.any() else 1.0
        # Levels without any video are left out: the others are fitted as if they did not exist.
        slope = typical / max(1, int(available_L.sum()))
        self.slope_L.fill_(slope + math.log(-math.expm1(-slope)))  # softplus inverted
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

    def terms(self, scores_LQB: Tensor, counted_LQB: Tensor) -> Tensor:
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
    def start(self, available_L: Tensor, spread_L: Tensor) -> None:
        """The slope of every level is that of a cosine at the first temperature."""
        self.slope_L.copy_((_START_SLOPE * spread_L).log())
        self.offset_L.fill_(START_OFFSET)
        self.bias_L.zero_()

    def silence(self, unseen_L: Tensor) -> None:
        """A slope of about 0, at the floor of softplus."""
        self.slope_L.masked_fill_(unseen_L, _UNSEEN)
        self.offset_L.masked_fill_(unseen_L, _UNSEEN)


class MentionMixtureFusion(MentionFusion):
    """Rule `mention_mixture`: as `mention`, and for each level a positive slope and an offset in
    a mixture."""

    def __init__(self, levels: int) -> None:
        super().__init__(levels)
        self.mixture_slope_L = nn.Parameter(torch.zeros(levels))
        self.mixture_offset_L = nn.Parameter(torch.zeros(levels))

    @property
    def mixture(self) -> tuple[Tensor, Tensor]:
        """(L,) slopes, by the exponential function, and (L,) offsets."""
        return self.mixture_slope_L.exp(), self.mixture_offset_L

    def terms(self, scores_LQB: Tensor, counted_LQB: Tensor) -> Tensor:
        """(L, Q, B) softplus(alpha z + c) + b, and of the log of the mixture, which no sum over
        levels gives, the share that the level has in the mixture."""
        slope_L, offset_L = self.mixture
        log_LQB = _column(slope_L) * self.standard(scores_LQB) + _column(offset_L)
        # The lowest finite number and not -inf: logsumexp over -inf alone has a gradient of NaN.
        log_LQB = log_LQB.masked_fill(~counted_LQB, torch.finfo(log_LQB.dtype).min)
        mixed_LQB = log_LQB.softmax(dim=0) * log_LQB.logsumexp(dim=0)
        return super().terms(scores_LQB, counted_LQB) + mixed_LQB

    @torch.no_grad()
    def start(self, available_L: Tensor, spread_L: Tensor) -> None:
        """Slopes of the mixture as those of `mention`, and equal levels."""
        super().start(available_L, spread_L)
        self.mixture_slope_L.copy_(self.slope_L)
        self.mixture_offset_L.zero_()

    def silence(self, unseen_L: Tensor) -> None:
        """As in `mention`, and in the mixture below every score."""
        super().silence(unseen_L)
        self.mixture_slope_L.masked_fill_(unseen_L, _UNSEEN)
        self.mixture_offset_L.masked_fill_(unseen_L, _NEVER)


LATE_FUSIONS: dict[str, type[LateFusion]] = {
    "affine": AffineFusion,
    "mention": MentionFusion,
    "mention_mixture": MentionMixtureFusion,
}


def _column(numbers_L: Tensor) -> Tensor:
    return numbers_L[:, None, None]
