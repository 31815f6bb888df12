"""Similarity of queries and videos. One scorer serves all levels.

Q queries, W rows of a query, B videos, N rows of a video, D joint width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from m2hf.fuse.config import ModelConfig
from m2hf.fuse.model.interaction import Weighted, interaction
from m2hf.fuse.model.tokens import Tokens, masked_mean

_TINY = 1e-12  # of a squared norm: a vector below it counts as zero


@dataclass(frozen=True, eq=False)
class UnitTokens(Tokens):
    """Tokens with one row an item, of norm 1, or zeros."""


class MeanScorer(nn.Module):
    """Cosine of the sentence, row 0 of a caption, with the mean of the video's rows."""

    query_rows: int | None = 1

    def __init__(self, joint: int, config: ModelConfig) -> None:
        super().__init__()

    def forward(self, queries: Tokens, videos: Tokens) -> Tensor:
        """(Q, B) cosines; 0 where query or video has no rows or a zero mean."""
        return mean_score(queries, videos)

    def condensed(self, videos: Tokens) -> Tokens:
        """(B, 1, D) the means, which give the same scores as all rows."""
        return Tokens(*_one_row(masked_mean(videos), videos))

    def prepared(self, tokens: Tokens) -> Tokens:
        """(B, 1, D) means of videos, or sentences of queries that have no more rows, with norm 1:
        they are scored by a product and nothing else."""
        return UnitTokens(*_one_row(_unit_mean(tokens), tokens))


class TokenwiseScorer(nn.Module):
    """Weighted token-wise interaction, 1/2 [sum_i w_i max_j c_ij + sum_j w_j max_i c_ij].

    i runs over words and j over rows of the video; the weights are a softmax over unmasked rows and
    equal at the start. A caption's words are its rows 1.., or row 0, the sentence, where there is
    no other.
    """

    query_rows: int | None = None

    def __init__(self, joint: int, config: ModelConfig) -> None:
        super().__init__()
        self.word_weight = _weigher(joint, config.width)
        self.row_weight = _weigher(joint, config.width)

    def forward(self, queries: Tokens, videos: Tokens) -> Tensor:
        """(Q, B) scores; 0 where query or video has no rows."""
        words = word_tokens(queries)
        return interaction(_weighted(self.word_weight, words), _weighted(self.row_weight, videos))

    def condensed(self, videos: Tokens) -> Tokens:
        """All rows, since each is compared with the words."""
        return videos

    def prepared(self, tokens: Tokens) -> Tokens:
        """All rows of videos or queries, as `condensed`."""
        return tokens


Scorer = MeanScorer | TokenwiseScorer
SCORERS: dict[str, type[Scorer]] = {"mean": MeanScorer, "wti": TokenwiseScorer}


def mean_score(queries: Tokens, videos: Tokens) -> Tensor:
    """(Q, B) cosines of sentences and mean rows; 0 where either has no rows or is zero."""
    if not isinstance(queries, UnitTokens):
        queries = Tokens(queries.values[:, :1], queries.mask[:, :1], queries.time_s[:, :1])
    return _unit_mean(queries) @ _unit_mean(videos).T


def _unit_mean(tokens: Tokens) -> Tensor:
    """(B, D) of norm 1, or zeros."""
    return tokens.values[:, 0] if isinstance(tokens, UnitTokens) else unit(masked_mean(tokens))


def _one_row(row_BD: Tensor, of: Tokens) -> tuple[Tensor, Tensor, Tensor]:
    """Values, mask and times of tokens with one row an item, masked where `of` has none."""
    return row_BD.unsqueeze(1), of.present.unsqueeze(1), torch.zeros_like(row_BD[:, :1])


def word_tokens(queries: Tokens) -> Tokens:
    """The same rows with the sentence masked where there are words."""
    mask = queries.mask.clone()
    mask[:, 0] &= ~mask[:, 1:].any(dim=1)
    return Tokens(queries.values, mask, queries.time_s)


def unit(x_BD: Tensor) -> Tensor:
    """Rows scaled to norm 1; a row of (nearly) zeros gives zeros and a gradient of zero.

    The plain quotient has a gradient of 1 / eps there, which would dominate the clipped step. NaN
    stays NaN, so that a diverged run is noticed.
    """
    square_B1 = x_BD.square().sum(dim=-1, keepdim=True)
    nonzero_B1 = ~(square_B1 <= _TINY)
    # Selected before the root as well as after: both branches of `where` need finite gradients.
    scaled_BD = x_BD * torch.where(nonzero_B1, square_B1, 1.0).rsqrt()
    return torch.where(nonzero_B1, scaled_BD, 0.0)


def _weigher(joint: int, hidden: int) -> nn.Module:
    last = nn.Linear(hidden, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(joint, hidden), nn.GELU(), last)


def _weighted(weigher: nn.Module, tokens: Tokens) -> Weighted:
    return Weighted(unit(tokens.values), tokens.mask, _weights(weigher, tokens))


def _weights(weigher: nn.Module, tokens: Tokens) -> Tensor:
    """(B, N) weights that sum to 1 over unmasked rows; zeros for an item without any."""
    logits_BN: Tensor = weigher(tokens.values).squeeze(-1)
    # The lowest finite number and not -inf: a softmax over -inf alone is NaN.
    floor = torch.finfo(logits_BN.dtype).min
    weights_BN = logits_BN.masked_fill(~tokens.mask, floor).softmax(dim=-1)
    return torch.where(tokens.mask, weights_BN, 0.0)
