"""Adapters and projections: stored features to the joint space in which captions and videos meet.
Each query role has a space of its own, with the streams that are compared with it.

A role whose features are in the joint space passes a residual adapter, which is the identity at
the start. A role with features of another space (`fuse.project`) is projected; if that is frames
or captions, there is no zero-shot start, and captions in the joint space pass a linear map that
starts as the identity. Our reading: the source has features of one CLIP model only.

B items, N rows, M width of a stream, D joint width.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from m2hf.fuse.config import FusionConfig
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.model.standardise import is_centred


def joint_widths(config: FusionConfig, widths: Mapping[str, int]) -> dict[str, int]:
    """D by joint role: the width of the roles that share its space; where all are projected,
    `fuse.model.joint`, or the captions' width where that is 0. widths: M by role."""
    found = {}
    for query in dict.fromkeys(config.spaces.values()):
        shared = config.shared_by(query)
        found[query] = widths[shared[0]] if shared else config.model.joint or widths[query]
    return {role: found[query] for role, query in config.spaces.items()}


def own_captions(config: FusionConfig) -> tuple[str, ...]:
    """The levels that adapt captions on their own: all but that of the frames, whose captions are
    those that frames are scored against; none where a network has a single level."""
    levels = config.trained_levels
    if not config.model.own_captions or config.strategy == "ensemble" or len(levels) < 2:
        return ()
    return tuple(name for name, level in levels.items() if level.stream != FRAMES)


def adapters(config: FusionConfig, widths: Mapping[str, int]) -> nn.ModuleDict:
    """The adapter or projection of every joint role, by role."""
    model, linear = config.model, config.model.projection != "adapted"
    made: dict[str, nn.Module] = {}
    for role, joint in joint_widths(config, widths).items():
        query = config.spaces[role]
        if role == query and _adapted_by_levels(config, query):
            continue
        if role in config.project and linear:
            dropout = 0.0 if role == query else model.input_dropout
            made[role] = Projection(widths[role], joint, dropout)
        elif role == query and is_centred(config, query):
            made[role] = _identity(joint)
        else:
            adapter: nn.Module = ResidualAdapter(joint, model.width, model.dropout)
            if role in config.project:
                adapter = nn.Sequential(NormedProjection(widths[role], joint), adapter)
            made[role] = adapter
    return nn.ModuleDict(made)


def _adapted_by_levels(config: FusionConfig, query: str) -> bool:
    """Whether only levels that adapt captions on their own read a query role, as it is stored."""
    return query != CAPTIONS and config.comparable_by(query) and bool(own_captions(config))


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


class ColumnDropout(nn.Dropout1d):
    """Dropout of columns, the same ones in all rows of a video: the score is of the mean over rows,
    in which dropout row by row averages out."""

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return super().forward(x_BND.transpose(1, 2)).transpose(1, 2)


class Projection(nn.Module):
    """W x + b, with dropout of the columns of x: linear, so that the mean row of a video is
    projected to the mean of its projected rows."""

    def __init__(self, width: int, joint: int, dropout: float) -> None:
        """width: M of the features, which are standardised; joint: D. At the start rows have
        norm about 1, which is the scale that early fusion expects of frames."""
        super().__init__()
        self.dropout = ColumnDropout(dropout)
        self.linear = nn.Linear(width, joint)
        nn.init.normal_(self.linear.weight, std=(width * joint) ** -0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x_BNM: Tensor) -> Tensor:
        """(B, N, M) -> (B, N, D)."""
        projected: Tensor = self.linear(self.dropout(x_BNM))
        return projected


def pooled_first(config: FusionConfig) -> frozenset[str]:
    """Roles of videos whose mean row may be projected in training in place of each row: the
    projection is linear, and nothing but the score, which is of the mean, reads the rows."""
    if config.scoring != "mean" or config.model.projection == "adapted":
        return frozenset()
    fused = any(level.fusion != "none" for level in config.trained_levels.values())
    read = {*config.query_roles, FRAMES} if fused else {*config.query_roles}
    return frozenset(config.project) - read


def _identity(width: int) -> Projection:
    made = Projection(width, width, 0.0)
    nn.init.eye_(made.linear.weight)
    return made


class NormedProjection(nn.Module):
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
