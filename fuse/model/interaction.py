"""Weighted token-wise interaction of ragged queries and videos, without arithmetic on padding.

Items are grouped by length, so that a group is a full array but for a few rows: a shorter item
repeats its first row there with weight 0, which changes neither a maximum nor a sum. So no copy of
the cube of cosines is masked, and the two maxima read it while it is in the processor's cache.

Q queries, W rows of a query, B videos, N rows of a video, D joint width.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

CELLS = 1 << 20  # cosines held at a time: 4 MiB of float32, about a core's cache
_GROUPS = 8  # at most, of each side: more would be small matrix products


class Weighted(NamedTuple):
    """Rows of B items: unit vectors (B, N, D), which of them there are (B, N) bool, and weights
    (B, N) that sum to 1 over those."""

    rows_BND: Tensor
    mask_BN: Tensor
    weights_BN: Tensor


def interaction(queries: Weighted, videos: Weighted) -> Tensor:
    """(Q, B): 1/2 [sum_i w_i max_j c_ij + sum_j w_j max_i c_ij] over the words i of a query and the
    rows j of a video; 0 where either has none."""
    of_videos, video_order = _grouped(videos)
    of_queries, query_order = _grouped(queries)
    # Videos run fastest in the columns of a group, so that both maxima are of whole vectors.
    columns = [rows.rows_BND.transpose(0, 1).flatten(0, 1).T for rows in of_videos]
    scores = [
        torch.cat([_scores(words, *pair) for pair in zip(of_videos, columns, strict=True)], dim=1)
        for group in of_queries
        for words in _split(group, max(rows.rows_BND[..., 0].numel() for rows in of_videos))
    ]
    return torch.cat(scores)[query_order][:, video_order]


def _scores(words: Weighted, rows: Weighted, columns_DM: Tensor) -> Tensor:
    """(Q, B) of two groups; columns_DM: the rows of all videos, row by row."""
    (q, w, _), (b, n, _) = words.rows_BND.shape, rows.rows_BND.shape
    cosine_QWNB = (words.rows_BND.flatten(0, 1) @ columns_DM).view(q, w, n, b)
    by_words_QB = torch.einsum("qw,qwb->qb", words.weights_BN, cosine_QWNB.amax(dim=2))
    by_rows_QB = torch.einsum("bn,qnb->qb", rows.weights_BN, cosine_QWNB.amax(dim=1))
    return (by_words_QB + by_rows_QB) / 2


def _grouped(items: Weighted) -> tuple[list[Weighted], Tensor]:
    """Full groups of similar length, and the place of each item (B,) in their concatenation. Items
    without rows are a group of their own."""
    counts_B = items.mask_BN.sum(dim=1)
    step = -(-items.mask_BN.shape[1] // _GROUPS)
    key_B = torch.div(counts_B + step - 1, step, rounding_mode="floor")
    order_B = key_B.argsort(stable=True)
    sizes = torch.unique_consecutive(key_B[order_B], return_counts=True)[1].tolist()
    groups = [_filled(items, chosen, counts_B[chosen]) for chosen in torch.split(order_B, sizes)]
    return groups, order_B.argsort()


def _filled(items: Weighted, chosen_b: Tensor, counts_b: Tensor) -> Weighted:
    """The items `chosen_b`, as many rows wide as the longest of them."""
    n = int(counts_b.max())
    if n == 0:  # rows of zeros, since the other side's weights would count them
        rows_b1D = torch.zeros_like(items.rows_BND[chosen_b, :1])
        return Weighted(rows_b1D, items.mask_BN[chosen_b, :1], items.weights_BN[chosen_b, :1])
    exists_bn = torch.arange(n, device=counts_b.device) < counts_b[:, None]
    place_bN = (~items.mask_BN[chosen_b]).to(torch.uint8).argsort(dim=1, stable=True)
    place_bn = torch.where(exists_bn, place_bN[:, :n], place_bN[:, :1])
    at = chosen_b[:, None], place_bn
    weights_bn = torch.where(exists_bn, items.weights_BN[at], 0.0)
    return Weighted(items.rows_BND[at], exists_bn, weights_bn)


def _split(group: Weighted, columns: int) -> Iterator[Weighted]:
    """Parts whose cosines with `columns` rows are at most CELLS, or one query."""
    cells = group.mask_BN.shape[1] * columns
    parts = (torch.split(tensor, max(1, CELLS // max(1, cells))) for tensor in group)
    for rows, mask, weights in zip(*parts, strict=True):
        yield Weighted(rows, mask, weights)
