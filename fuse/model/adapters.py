"""What stands between stored features and the joint space in which captions and videos meet.

A role that lies in the joint space passes a residual adapter, a small correction that starts at
none. One that lies elsewhere (`fuse.project`) is projected first, by weights learned from
scratch; then nothing is zero-shot where frames or captions are meant. Our reading: the source
knows only features of one CLIP model.

B items, N rows, M width of a stream, D joint width.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from m2hf.fuse.config import CAPTIONS, FusionConfig


def joint_width(config: FusionConfig, widths: Mapping[str, int]) -> int:
    """D: the width of the roles that share the joint space; where all are projected, what the
    config says, or else the captions' width. widths: M by role."""
    if config.shared_roles:
        return widths[config.shared_roles[0]]
    return config.model.joint or widths[CAPTIONS]


def adapters(config: FusionConfig, widths: Mapping[str, int]) -> nn.ModuleDict:
    """The way into the joint space of every role that meets the captions, by role."""
    joint, model = joint_width(config, widths), config.model
    made: dict[str, nn.Module] = {}
    for role in config.joint_roles:
        adapter: nn.Module = ResidualAdapter(joint, model.width, model.dropout)
        if role in config.project:
            adapter = nn.Sequential(Projection(widths[role], joint), adapter)
        made[role] = adapter
    return nn.ModuleDict(made)


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


class Projection(nn.Module):
    """W LN(x) + b: features of any width and scale to rows of length about 1 at the start, as
    CLIP's are, so that early fusion finds frames of the size that it expects."""

    def __init__(self, width: int, joint: int) -> None:
        """width: M of the features; joint: D."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        nn.init.constant_(self.norm.weight, joint**-0.5)
        self.linear = nn.Linear(width, joint)
        nn.init.normal_(self.linear.weight, std=width**-0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x_BNM: Tensor) -> Tensor:
        """(B, N, M) -> (B, N, D)."""
        projected: Tensor = self.linear(self.norm(x_BNM))
        return projected
