"""Streams standardised by column: minus the mean, divided by the standard deviation.

Both are of the training part and in the checkpoint. Streams whose columns differ in scale, such as
spectrograms and histograms, are otherwise read by their largest columns alone. A stream in the
joint space is not standardised, since that would move it out of that space. Our reading.

B items, N rows, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.statistics import ColumnStatistics
from m2hf.fuse.model.tokens import Tokens


class Standardise(nn.Module):
    """(x - mean) / deviation by column; x itself until `fit`."""

    mean_D: Tensor
    deviation_D: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("deviation_D", torch.ones(width))

    @torch.no_grad()
    def fit(self, statistics: ColumnStatistics) -> None:
        """Take over the statistics of a stream."""
        self.mean_D.copy_(torch.from_numpy(statistics.mean_D))
        self.deviation_D.copy_(torch.from_numpy(statistics.deviation_D))

    def forward(self, tokens: Tokens) -> Tokens:
        """The same rows, standardised; padding stays finite."""
        values_BND = (tokens.values - self.mean_D) / self.deviation_D
        return Tokens(values_BND, tokens.mask, tokens.time_s)


def standardisers(config: FusionConfig, widths: Mapping[str, int]) -> nn.ModuleDict:
    """One for each role that is not in the joint space as it is; widths: by role, of the streams
    in the store."""
    if not config.model.standardise:
        return nn.ModuleDict()
    apart = [role for role in config.roles if role not in config.shared_roles]
    return nn.ModuleDict({role: Standardise(widths[role]) for role in apart})
