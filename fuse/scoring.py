"""How alike a query and a video are: cosine of mean-pooled rows.

Q queries, B videos, N rows, D joint width.
"""

import torch
from torch import Tensor

from m2hf.fuse.tokens import Tokens

QUERY_ROWS = 1  # of a caption, mean scoring reads row 0: the sentence embedding
LOWEST = -1.0  # what a video that is missing scores: the lowest cosine

_TINY = 1e-12  # of a squared length: below it a vector has no direction


def mean_score(queries: Tokens, videos: Tokens) -> Tensor:
    """(Q, B) cosines of pooled rows; 0 where a side has no rows or no direction."""
    return unit(masked_mean(queries)) @ unit(masked_mean(videos)).T


def masked_mean(tokens: Tokens) -> Tensor:
    """(B, D) mean over real rows; zeros for an item without any."""
    real_BN1 = tokens.mask.unsqueeze(-1)
    total_BD = torch.where(real_BN1, tokens.values, 0.0).sum(dim=1)
    return total_BD / real_BN1.sum(dim=1).clamp(min=1)


def unit(x_BD: Tensor) -> Tensor:
    """Rows scaled to length 1; a row of (nearly) zeros gives zeros and a gradient of zero.

    The plain quotient has a gradient of 1 / eps there, which would eat the clipped step.
    """
    square_B1 = x_BD.square().sum(dim=-1, keepdim=True)
    directed_B1 = square_B1 > _TINY
    # Chosen before the root as well as after: the gradient of an unchosen branch must be finite.
    scaled_BD = x_BD * torch.where(directed_B1, square_B1, 1.0).rsqrt()
    return torch.where(directed_B1, scaled_BD, 0.0)
