"""M2HF on cached features: adapters, early fusion, levels, late fusion.

B videos, Q queries, N rows, D joint width, L levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from m2hf.fuse.adapters import ResidualAdapter
from m2hf.fuse.config import CAPTIONS, FRAMES, FusionConfig
from m2hf.fuse.late import AffineCalibration
from m2hf.fuse.levels import Levels, LevelTokens, level_scores
from m2hf.fuse.losses import ContrastiveLoss
from m2hf.fuse.scoring import SCORERS
from m2hf.fuse.tokens import Tokens


@dataclass(frozen=True, eq=False)
class EncodedVideos:
    """B videos, ready to be scored against any query: adapted frames, and the levels' tokens."""

    frames: Tokens
    levels: dict[str, LevelTokens]


@dataclass(frozen=True, eq=False)
class Scores:
    """levels (L, Q, B), in [-1, 1]; valid (L, B) bool; fused (Q, B), which means nothing for a
    video that is valid nowhere."""

    levels: Tensor
    valid: Tensor
    fused: Tensor


class M2HF(nn.Module):
    """The model: queries and videos in, scores of every level and their late fusion out."""

    def __init__(self, config: FusionConfig, widths: Mapping[str, int]) -> None:
        """widths: columns of each role's stream in the store."""
        super().__init__()
        self.level_names = tuple(config.active_levels)
        self.adapters = nn.ModuleDict(
            {
                role: ResidualAdapter(widths[role], config.model.width, config.model.dropout)
                for role in config.joint_roles
            }
        )
        self.levels = Levels(config, widths)
        self.scorer = SCORERS[config.scoring](widths[CAPTIONS], config.model)
        self.late = AffineCalibration(len(self.level_names))
        self.contrast = ContrastiveLoss()

    def encode_queries(self, captions: Tokens) -> Tokens:
        """Adapt captions (Q, W, D): row 0 is the sentence, further rows its tokens."""
        return self._adapt(CAPTIONS, captions)

    def encode_videos(self, streams: Mapping[str, Tokens]) -> EncodedVideos:
        """Adapt and fuse the streams of B videos, given by role."""
        adapted = {role: self._adapt(role, tokens) for role, tokens in streams.items()}
        return EncodedVideos(adapted[FRAMES], self.levels(adapted))

    def score(self, queries: Tokens, videos: EncodedVideos) -> Scores:
        """Every query against every video."""
        levels_LQB, valid_LB = level_scores(self.scorer, queries, videos.frames, videos.levels)
        return Scores(levels_LQB, valid_LB, self.late(levels_LQB, valid_LB))

    def forward(self, captions: Tokens, streams: Mapping[str, Tokens]) -> Scores:
        """Encode and score one batch."""
        return self.score(self.encode_queries(captions), self.encode_videos(streams))

    def _adapt(self, role: str, tokens: Tokens) -> Tokens:
        if role not in self.adapters:
            return tokens
        return Tokens(self.adapters[role](tokens.values), tokens.mask, tokens.time_s)
