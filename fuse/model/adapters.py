"""Adapters and projections: stored features to the joint space in which captions and videos meet.

A role whose features are in the joint space passes a residual adapter, which is the identity at
the start. A role with features of another space (`fuse.project`) is projected first, by weights
learned from scratch; if that is frames or captions, there is no zero-shot start. Our reading: the
source has features of one CLIP model only.

B items, N rows, M width of a stream, D joint width.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from m2hf.fuse.config import CAPTIONS, FusionConfig


def joint_width(config: FusionConfig, widths: Mapping[str, int]) -> int:
    """D: the width of the roles that share the joint space; where all are projected,
    `fuse.model.joint`, or the captions' width where that is 0. widths: M by role."""
    if config.shared_roles:
        return widths[config.shared_roles[0]]
    return config.model.joint or widths[CAPTIONS]


def adapters(config: FusionConfig, widths: Mapping[str, int]) -> nn.ModuleDict:
    """The adapter, with a projection where configured, of every joint role, by role."""
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
    """W LN(x) + b: features of any width and scale to rows of norm about 1 at the start, as
    CLIP's are, which is the scale that early fusion expects of frames."""

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
