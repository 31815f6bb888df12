"""Balance losses: weak levels must go on learning beside a strong one (design 6; our reading).

`contribution`: gamma KL(uniform || share of each level in the positive's score), the strongest
level left as it is; `dwa`: dynamic weight average of the levels' losses (Liu et al., 2019);
`uncertainty`: a learned log-variance a level (Kendall et al., 2018); `gradient`: a level ahead
of the others has its own parameters' gradient made smaller (OGM-GE, Peng et al., 2022).

gamma 0 is no balance in every form. A level without samples in a batch counts nowhere.

L levels, Q queries, B videos, P pairs of a query with its video.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from m2hf.fuse.config import BalanceConfig, Level
from m2hf.fuse.model.calibration import AffineCalibration

_DWA_TEMPERATURE = 2.0
_LEAST = 1e-6  # of a share or a loss that is divided by


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each level adds to the positive's score above the mean candidate, in units of the
    loss: values (L, P); known (L, P) whether the level knows the video."""

    values: Tensor
    known: Tensor

    @property
    def shares(self) -> Tensor:
        """(L, P) positive shares that sum to 1 over known levels; 0 where unknown."""
        return _shares(self.values, self.known)

    @property
    def mean_share(self) -> Tensor:
        """(L,) mean share over the pairs that a level knows; 0 where it knows none."""
        return self.shares.sum(dim=1) / self.known.sum(dim=1).clamp(min=1)


def contributions(
    levels_LQB: Tensor,
    valid_LB: Tensor,
    positives_QB: Tensor,
    late: AffineCalibration,
    scale: Tensor,
) -> Contributions:
    """Contributions of a batch. Slopes and temperature are held: a weak level shall gain by
    what it says of the video, not by being spoken louder."""
    slope_L = (scale * late.alpha_L / late.deviation_L).detach()
    terms_LQB = slope_L[:, None, None] * levels_LQB
    real_L1B = valid_LB.unsqueeze(1)
    total_LQ = torch.where(real_L1B, terms_LQB, 0.0).sum(dim=2)
    mean_LQ = total_LQ / real_L1B.sum(dim=2).clamp(min=1)
    query_P, video_P = positives_QB.nonzero(as_tuple=True)
    return Contributions(terms_LQB[:, query_P, video_P] - mean_LQ[:, query_P], valid_LB[:, video_P])


def contribution_loss(given: Contributions) -> Tensor:
    """Mean of KL(uniform || share) over pairs that two levels or more know; 0 without any.

    The strongest level of each pair is held, so that the loss lifts the others and never
    lowers it.
    """
    values_LP, known_LP = given.values, given.known
    count_P = known_LP.sum(dim=0)
    if not (count_P > 1).any():
        return values_LP.sum() * 0.0
    strongest_P = values_LP.masked_fill(~known_LP, -torch.inf).argmax(dim=0)
    held_LP = torch.arange(len(values_LP), device=values_LP.device)[:, None] == strongest_P
    shares_LP = _shares(torch.where(held_LP, values_LP.detach(), values_LP), known_LP)
    surprise_LP = torch.where(known_LP, -shares_LP.clamp(min=_LEAST).log(), 0.0)
    several_P = count_P.clamp(min=1)
    kl_P = surprise_LP.sum(dim=0) / several_P - several_P.log()
    return kl_P[count_P > 1].mean()


class Balance(nn.Module):
    """One form of balance and what it remembers between batches."""

    previous_2L: Tensor

    def __init__(self, levels: int, config: BalanceConfig) -> None:
        super().__init__()
        self.form, self.gamma = config.form, config.gamma
        # Mean losses of the last epoch, and of the one before.
        self.register_buffer("previous_2L", torch.zeros(2, levels))
        if self.form == "uncertainty":
            self.log_variance_L = nn.Parameter(torch.zeros(levels))

    def forward(
        self, losses_L: Tensor, seen_L: Tensor, given: Contributions, weight: float
    ) -> Tensor:
        """What is added to NCE(fused): the levels' losses at `weight`, balanced."""
        seen = torch.where(seen_L, losses_L, 0.0)
        own = weight * seen.sum()
        if self.form == "contribution":
            return own + self.gamma * contribution_loss(given)
        if self.form == "dwa":
            more_L = self.gamma * (self.dwa_weights() - 1)
            return own + weight * (more_L * seen).sum()
        if self.form == "uncertainty":
            s_L = self.log_variance_L
            tempered_L = ((-s_L).exp() - 1) * seen + s_L
            return own + weight * self.gamma * torch.where(seen_L, tempered_L, 0.0).sum()
        return own

    def dwa_weights(self) -> Tensor:
        """(L,) weights, L times a softmax of how slowly each loss fell over the last two epochs;
        1 for a level that has not been seen in both."""
        last_L, before_L = self.previous_2L
        known_L = (last_L > _LEAST) & (before_L > _LEAST)
        ratio_L = torch.where(known_L, last_L / before_L.clamp(min=_LEAST), 0.0)
        weights_L = (ratio_L / _DWA_TEMPERATURE).exp() * known_L
        weights_L = weights_L * known_L.sum() / weights_L.sum().clamp(min=_LEAST)
        return torch.where(known_L, weights_L, 1.0)

    @torch.no_grad()
    def end_epoch(self, losses_L: Tensor) -> None:
        """Remember an epoch's mean losses; 0 stands for a level without samples."""
        self.previous_2L.copy_(torch.stack([losses_L, self.previous_2L[0]]))

    @torch.no_grad()
    def gradient_scales(self, given: Contributions) -> Tensor:
        """(L,) 1 - tanh(gamma (share / mean share of the others - 1)) where a level is ahead."""
        share_L, seen_L = given.mean_share, given.known.any(dim=1)
        others_L = (share_L.sum() - share_L) / (seen_L.sum() - 1).clamp(min=1)
        ahead_L = (share_L / others_L.clamp(min=_LEAST) - 1).clamp(min=0)
        alone = int(seen_L.sum()) < 2
        if self.form != "gradient" or alone:
            return torch.ones_like(share_L)
        return 1 - torch.tanh(self.gamma * ahead_L)


@torch.no_grad()
def scale_gradients(model: nn.Module, levels: dict[str, Level], scales_L: Tensor) -> None:
    """Multiply the gradient of what belongs to one level alone: its fusion, its completion, and
    the adapter of its stream."""
    for (name, level), scale in zip(levels.items(), scales_L, strict=True):
        own = (f"levels.early.{name}.", f"levels.completion.{name}.", f"adapters.{level.stream}.")
        for parameter_name, parameter in model.named_parameters():
            if parameter.grad is not None and parameter_name.startswith(own):
                parameter.grad.mul_(scale)


def _shares(values_LP: Tensor, known_LP: Tensor) -> Tensor:
    positive_LP = torch.where(known_LP, softplus(values_LP), 0.0)
    shares: Tensor = positive_LP / positive_LP.sum(dim=0).clamp(min=_LEAST)
    return shares
