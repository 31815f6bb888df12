"""Streams standardised by column: minus the mean, divided by the standard deviation.

Both are of the training part and in the checkpoint. Streams whose columns differ in scale, such as
spectrograms and histograms, are otherwise read by their largest columns alone. A stream in the
joint space is not standardised, since that would move it out of that space; where frames and
captions don't share it, so that there is no zero-shot start to keep, it is centred. Our reading.

B items, N rows, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.statistics import ColumnStatistics
from m2hf.fuse.model.scorers import unit
from m2hf.fuse.model.tokens import Tokens


class Standardise(nn.Module):
    """(x - mean) / deviation by column; x itself until `fit`."""

    mean_D: Tensor
    deviation_D: Tensor

    def __init__(self, width: int, scaled: bool = True, of_unit_rows: bool = False) -> None:
        """scaled: divide by the deviation, too; of_unit_rows: x are rows scaled to norm 1, which
        is how captions are compared, and so what their statistics are of."""
        super().__init__()
        self.scaled, self.of_unit_rows = scaled, of_unit_rows
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("deviation_D", torch.ones(width))

    @torch.no_grad()
    def fit(self, statistics: ColumnStatistics) -> None:
        """Take over the statistics of a stream."""
        self.mean_D.copy_(torch.from_numpy(statistics.mean_D))
        if self.scaled:
            self.deviation_D.copy_(torch.from_numpy(statistics.deviation_D))

    def forward(self, tokens: Tokens) -> Tokens:
        """The same rows, standardised; padding stays finite."""
        x_BND = unit(tokens.values) if self.of_unit_rows else tokens.values
        return Tokens((x_BND - self.mean_D) / self.deviation_D, tokens.mask, tokens.time_s)


def is_centred(config: FusionConfig, query: str) -> bool:
    """Whether roles that share the joint space of a query role are centred: there is no zero-shot
    start."""
    return config.model.projection != "adapted" and not config.comparable_by(query)


def standardisers(config: FusionConfig, widths: Mapping[str, int]) -> nn.ModuleDict:
    """One for each role that is not in the joint space as it is; widths: by role, of the streams
    in the store."""
    made = {}
    for role in config.roles:
        shared = role in config.shared_roles
        if is_centred(config, config.spaces[role]) if shared else config.model.standardise:
            made[role] = Standardise(widths[role], not shared, role in config.query_roles)
    return nn.ModuleDict(made)
