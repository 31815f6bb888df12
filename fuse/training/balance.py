"""Balance losses, which keep weak levels learning next to a strong one (design 6; our reading).

`mixture`: the pairs' likelihood under a mixture of the levels, in place of the sum of the levels'
losses, so that a level learns from what it can answer; `contribution`: gamma KL(uniform || share
of each level in the positive's score), with a stop-gradient on the strongest level; `dwa`: dynamic
weight average of the levels' losses (Liu et al., 2019); `uncertainty`: a learned log-variance a
level (Kendall et al., 2018); `gradient`: the gradient of the parameters of a level that is ahead
of the others is scaled down (OGM-GE, Peng et al., 2022).

With gamma 0 every form but `mixture` is without effect. A level without samples in a batch is left
out.

L levels, Q queries, B videos, P pairs of a query with its video.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from m2hf.fuse.config import BalanceConfig
from m2hf.fuse.level_table import CAPTIONS, Level
from m2hf.fuse.model.contrastive import pair_losses
from m2hf.fuse.model.late_fusion import LateFusion

_DWA_TEMPERATURE = 2.0
_LEAST = 1e-6  # lower bound of a share or a loss in a denominator or a logarithm


@dataclass(frozen=True, eq=False)
class PairLosses:
    """Cross entropy of each pair by each level: values (2, L, P), T2V and V2T; known (L, P) whether
    the level is valid for the pair's video, which is no negative of others where it is not."""

    values: Tensor
    known: Tensor

    @classmethod
    def of(cls, logits_LQB: Tensor, valid_LB: Tensor, positives_QB: Tensor) -> Self:
        """logits: scores over the temperature of their level."""
        known_LP = valid_LB[:, positives_QB.nonzero(as_tuple=True)[1]]
        negatives_LQB = valid_LB.unsqueeze(1) & ~positives_QB
        return cls(pair_losses(logits_LQB, negatives_LQB, positives_QB), known_LP)

    @property
    def seen_L(self) -> Tensor:
        """(L,) bool: which levels know a pair."""
        return self.known.any(dim=1)

    @property
    def mean_L(self) -> Tensor:
        """(L,) contrastive loss of each level over the pairs that it knows; 0 without any."""
        total_L = torch.where(self.known, self.values, 0.0).mean(dim=0).sum(dim=1)
        mean_L: Tensor = total_L / self.known.sum(dim=1).clamp(min=1)
        return mean_L


def mixture_loss(pairs: PairLosses) -> Tensor:
    """-log of the mean over the levels that know a pair of its probability, averaged over pairs and
    directions; 0 without any pair.

    The log-likelihood of a mixture of experts with equal priors: its gradient reaches a level in
    proportion to its share in the pair's likelihood.
    """
    count_P = pairs.known.sum(dim=0)
    if not count_P.any():
        return pairs.values.sum() * 0.0
    # The lowest finite number and not -inf: logsumexp over -inf alone has a gradient of NaN.
    lowest = torch.finfo(pairs.values.dtype).min
    log_2LP = (-pairs.values).masked_fill(~pairs.known, lowest)
    loss_2P = count_P.clamp(min=1).log() - log_2LP.logsumexp(dim=1)
    return loss_2P[:, count_P > 0].mean()


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each level adds to the positive's score above the mean candidate, in units of the
    loss: values (L, P); available (L, P) whether the level is valid for the video."""

    values: Tensor
    available: Tensor

    @property
    def shares(self) -> Tensor:
        """(L, P) positive shares that sum to 1 over available levels; 0 where not available."""
        return _shares(self.values, self.available)

    @property
    def mean_share(self) -> Tensor:
        """(L,) mean share over the pairs that a level is valid for; 0 where there is none."""
        return self.shares.sum(dim=1) / self.available.sum(dim=1).clamp(min=1)


def contributions(
    levels_LQB: Tensor,
    valid_LB: Tensor,
    positives_QB: Tensor,
    late: LateFusion,
    scale: Tensor,
) -> Contributions:
    """Contributions of a batch; scale: of S in the loss. It and the late fusion have no gradient
    here: a weak level is to gain by better scores, not by a larger slope."""
    real_L1B = valid_LB.unsqueeze(1)
    fixed, counted_LQB = deepcopy(late).requires_grad_(False), real_L1B.expand_as(levels_LQB)
    terms_LQB = scale.detach() * fixed.terms(levels_LQB, counted_LQB)
    total_LQ = torch.where(real_L1B, terms_LQB, 0.0).sum(dim=2)
    mean_LQ = total_LQ / real_L1B.sum(dim=2).clamp(min=1)
    query_P, video_P = positives_QB.nonzero(as_tuple=True)
    return Contributions(terms_LQB[:, query_P, video_P] - mean_LQ[:, query_P], valid_LB[:, video_P])


def contribution_loss(parts: Contributions) -> Tensor:
    """Mean of KL(uniform || share) over pairs that at least two levels are valid for; 0 without
    any.

    The strongest level of each pair has no gradient, so that the loss raises the others and never
    lowers it.
    """
    values_LP, available_LP = parts.values, parts.available
    count_P = available_LP.sum(dim=0)
    if not (count_P > 1).any():
        return values_LP.sum() * 0.0
    strongest_P = values_LP.masked_fill(~available_LP, -torch.inf).argmax(dim=0)
    strongest_LP = torch.arange(len(values_LP), device=values_LP.device)[:, None] == strongest_P
    shares_LP = _shares(torch.where(strongest_LP, values_LP.detach(), values_LP), available_LP)
    negative_log_LP = torch.where(available_LP, -shares_LP.clamp(min=_LEAST).log(), 0.0)
    levels_P = count_P.clamp(min=1)
    kl_P = negative_log_LP.sum(dim=0) / levels_P - levels_P.log()
    return kl_P[count_P > 1].mean()


class Balance(nn.Module):
    """One form of balance, with its state between epochs."""

    previous_2L: Tensor

    def __init__(self, levels: int, config: BalanceConfig) -> None:
        super().__init__()
        self.form, self.gamma = config.form, config.gamma
        # Mean losses of the last epoch, and of the one before it.
        self.register_buffer("previous_2L", torch.zeros(2, levels))
        if self.form == "uncertainty":
            self.log_variance_L = nn.Parameter(torch.zeros(levels))

    def forward(self, pairs: PairLosses, parts: Contributions, weight: float) -> Tensor:
        """The term added to NCE(fused): the levels' losses times `weight`, balanced."""
        seen_L = pairs.seen_L
        if self.form == "mixture":
            return weight * seen_L.sum() * mixture_loss(pairs)
        seen = pairs.mean_L
        own = weight * seen.sum()
        if self.form == "contribution":
            return own + self.gamma * contribution_loss(parts)
        if self.form == "dwa":
            more_L = self.gamma * (self.dwa_weights() - 1)
            return own + weight * (more_L * seen).sum()
        if self.form == "uncertainty":
            s_L = self.log_variance_L
            tempered_L = ((-s_L).exp() - 1) * seen + s_L
            return own + weight * self.gamma * torch.where(seen_L, tempered_L, 0.0).sum()
        return own

    def dwa_weights(self) -> Tensor:
        """(L,) weights, L times a softmax of the ratio of the last two epochs' losses; 1 for a
        level without samples in one of them."""
        last_L, before_L = self.previous_2L
        available_L = (last_L > _LEAST) & (before_L > _LEAST)
        ratio_L = torch.where(available_L, last_L / before_L.clamp(min=_LEAST), 0.0)
        weights_L = (ratio_L / _DWA_TEMPERATURE).exp() * available_L
        weights_L = weights_L * available_L.sum() / weights_L.sum().clamp(min=_LEAST)
        return torch.where(available_L, weights_L, 1.0)

    @torch.no_grad()
    def end_epoch(self, losses_L: Tensor) -> None:
        """Store an epoch's mean losses (L,); 0 for a level without samples."""
        self.previous_2L.copy_(torch.stack([losses_L, self.previous_2L[0]]))

    @torch.no_grad()
    def gradient_scales(self, parts: Contributions) -> Tensor:
        """(L,) 1 - tanh(gamma (share / mean share of the others - 1)) where a level is ahead."""
        share_L, seen_L = parts.mean_share, parts.available.any(dim=1)
        others_L = (share_L.sum() - share_L) / (seen_L.sum() - 1).clamp(min=1)
        ahead_L = (share_L / others_L.clamp(min=_LEAST) - 1).clamp(min=0)
        alone = int(seen_L.sum()) < 2
        if self.form != "gradient" or alone:
            return torch.ones_like(share_L)
        return 1 - torch.tanh(self.gamma * ahead_L)


@torch.no_grad()
def scale_gradients(model: nn.Module, levels: dict[str, Level], scales_L: Tensor) -> None:
    """Scale the gradients of the parameters of each level alone: its early fusion, its completion,
    its captions, and the adapters of its stream and of its query, where that isn't the frames'."""
    for (name, level), scale in zip(levels.items(), scales_L, strict=True):
        parts = ("early", "completion", "captions")
        roles = [level.stream, *([level.query] if level.query != CAPTIONS else [])]
        own = (
            *(f"levels.{part}.{name}." for part in parts),
            *(f"adapters.{role}." for role in roles),
        )
        for parameter_name, parameter in model.named_parameters():
            if parameter.grad is not None and parameter_name.startswith(own):
                parameter.grad.mul_(scale)


def _shares(values_LP: Tensor, available_LP: Tensor) -> Tensor:
    positive_LP = torch.where(available_LP, softplus(values_LP), 0.0)
    shares: Tensor = positive_LP / positive_LP.sum(dim=0).clamp(min=_LEAST)
    return shares
