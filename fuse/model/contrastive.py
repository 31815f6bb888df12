"""The contrastive loss: symmetric InfoNCE with several positives a video.

Q queries, B videos, P pairs of a query with its video.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

_TEMPERATURE = 0.05  # at the start (design 6)
_LARGEST_SCALE = 100.0


class Temperature(nn.Module):
    """Learned temperatures: one, or an array of them."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full(shape, -math.log(_TEMPERATURE)))

    @property
    def scale(self) -> Tensor:
        """1 / temperature, at most 100."""
        return self.log_scale.clamp(max=math.log(_LARGEST_SCALE)).exp()


class ContrastiveLoss(Temperature):
    """InfoNCE in both directions with a learned temperature."""

    def forward(self, scores_QB: Tensor, positives_QB: Tensor, valid_B: Tensor) -> Tensor:
        """Mean loss over the pairs whose video is valid; 0 where there is none.

        A video that is not valid is not a candidate either: its score is undefined.
        """
        return info_nce(self.scale * scores_QB[:, valid_B], positives_QB[:, valid_B])


def info_nce(logits_QB: Tensor, positives_QB: Tensor) -> Tensor:
    """Half of T2V and half of V2T cross entropy, averaged over the pairs.

    Positives of the same query or video are not negatives of each other: two captions of one
    video, or two videos of one caption.
    """
    if not positives_QB.any():
        return logits_QB.sum() * 0.0
    return pair_losses(logits_QB, ~positives_QB, positives_QB).mean()


def pair_losses(logits: Tensor, negatives: Tensor, positives_QB: Tensor) -> Tensor:
    """(2, ..., P) cross entropy of each pair, T2V and V2T, against the negatives of its row and of
    its column; 0 where there are none. logits, negatives: (..., Q, B)."""
    query_P, video_P = positives_QB.nonzero(as_tuple=True)
    # The lowest finite number and not -inf: logsumexp over -inf alone has a gradient of NaN.
    others = logits.masked_fill(~negatives, torch.finfo(logits.dtype).min)
    pairs = logits[..., query_P, video_P]
    t2v = softplus(others.logsumexp(dim=-1)[..., query_P] - pairs)
    v2t = softplus(others.logsumexp(dim=-2)[..., video_P] - pairs)
    return torch.stack([t2v, v2t])
