"""Token-wise interaction as it is usually written: an einsum over padded rows, masked."""

import math

import torch
from torch import Tensor

from m2hf.fuse.model.scorers import unit, word_tokens
from m2hf.fuse.model.tokens import Tokens

_QUERIES = 100  # at a time, so that the cube fits


def einsum_interaction(queries: Tokens, videos: Tokens) -> Tensor:
    """(Q, B) with equal weights, as those of `TokenwiseScorer` are at the start."""
    words = word_tokens(queries)
    rows_BND, is_row_BN = unit(videos.values), videos.mask
    w_BN = is_row_BN / is_row_BN.sum(dim=1, keepdim=True)
    parts = []
    for start in range(0, len(words.mask), _QUERIES):
        part = slice(start, start + _QUERIES)
        is_word_QW = words.mask[part]
        w_QW = is_word_QW / is_word_QW.sum(dim=1, keepdim=True)
        cosine_QBWN = torch.einsum("qwd,bnd->qbwn", unit(words.values[part]), rows_BND)
        best_QBW = cosine_QBWN.masked_fill(~is_row_BN[None, :, None], -math.inf).amax(dim=3)
        best_QBN = cosine_QBWN.masked_fill(~is_word_QW[:, None, :, None], -math.inf).amax(dim=2)
        by_words_QB = torch.einsum("qbw,qw->qb", best_QBW, w_QW)
        parts.append((by_words_QB + torch.einsum("qbn,bn->qb", best_QBN, w_BN)) / 2)
    return torch.cat(parts)
