"""Residual adapters: a small correction of frozen features that starts at none.

B items, N rows, D width.
"""

from torch import Tensor, nn


class ResidualAdapter(nn.Module):
    """x + W2 gelu(W1 LN(x)), with W2 zero at the start, so that step 0 gives x (design 6)."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        """width: D of the features; hidden: width in between."""
        super().__init__()
        last = nn.Linear(hidden, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.change = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), last
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        changed: Tensor = x_BND + self.change(x_BND)
        return changed
