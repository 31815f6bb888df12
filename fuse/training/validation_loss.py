"""The contrastive loss of a whole gallery, from blocks of its queries.

q queries of a block, V videos, P pairs of a query with its video.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import softplus

BLOCK_CELLS = 1 << 22  # level scores of a block: a few of its tensors exist at the same time


def gallery_loss(blocks: Iterable[tuple[Tensor, Tensor]]) -> float:
    """`info_nce` of logits_qV and positives_qV, block by block; 0 where there is no positive.

    Of a single block it has the same bits; of several, the sum over the queries of a video is
    rounded otherwise.
    """
    pairs, of_queries, videos = [], [], []
    of_videos_V: Tensor | None = None
    for logits_qV, positives_qV in blocks:
        query_P, video_P = positives_qV.nonzero(as_tuple=True)
        negatives_qV = logits_qV.masked_fill(positives_qV, torch.finfo(logits_qV.dtype).min)
        pairs.append(logits_qV[query_P, video_P])
        of_queries.append(negatives_qV.logsumexp(dim=-1)[query_P])
        videos.append(video_P)
        own_V = negatives_qV.logsumexp(dim=-2)
        of_videos_V = own_V if of_videos_V is None else torch.logaddexp(of_videos_V, own_V)
    if of_videos_V is None or not any(len(video_P) for video_P in videos):
        return 0.0
    pairs_P = torch.cat(pairs)
    t2v_P = softplus(torch.cat(of_queries) - pairs_P)
    v2t_P = softplus(of_videos_V[torch.cat(videos)] - pairs_P)
    return float(torch.stack([t2v_P, v2t_P]).mean())
