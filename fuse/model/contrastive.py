"""The contrastive loss: symmetric InfoNCE with several positives a video.

Q queries, B videos, P pairs of a query with its video.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

_TEMPERATURE = 0.05  # at the start (design 6)
_LARGEST_SCALE = 100.0


class ContrastiveLoss(nn.Module):
    """InfoNCE in both directions with a learned temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(_TEMPERATURE)))

    @property
    def scale(self) -> Tensor:
        """1 / temperature, at most 100."""
        return self.log_scale.clamp(max=math.log(_LARGEST_SCALE)).exp()

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
    query_P, video_P = positives_QB.nonzero(as_tuple=True)
    if not len(query_P):
        return logits_QB.sum() * 0.0
    # The lowest finite number and not -inf: logsumexp over -inf alone has a gradient of NaN.
    negatives_QB = logits_QB.masked_fill(positives_QB, torch.finfo(logits_QB.dtype).min)
    pairs_P = logits_QB[query_P, video_P]
    t2v_P = softplus(negatives_QB.logsumexp(dim=1)[query_P] - pairs_P)
    v2t_P = softplus(negatives_QB.logsumexp(dim=0)[video_P] - pairs_P)
    return (t2v_P.mean() + v2t_P.mean()) / 2
