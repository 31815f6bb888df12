"""The levels of M2HF, built from the table of the config: each is tokens that a query meets.

B videos, Q queries, N tokens, D joint width, L levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from m2hf.fuse.config import FRAMES, Level, ModelConfig
from m2hf.fuse.early import EARLY_FORMS
from m2hf.fuse.scoring import mean_score
from m2hf.fuse.tokens import Tokens


@dataclass(frozen=True, eq=False)
class LevelTokens:
    """What one level offers of B videos.

    tokens: (B, N, D); valid: (B,) whether the level says anything of a video; fused: (B,)
    whether its tokens count, or else the frames in their place; None where nothing is fused.
    """

    tokens: Tokens
    valid: Tensor
    fused: Tensor | None = None


class Levels(nn.Module):
    """All enabled levels; the early fusions are trained."""

    def __init__(
        self, levels: Mapping[str, Level], widths: Mapping[str, int], config: ModelConfig
    ) -> None:
        """widths: D or M by role."""
        super().__init__()
        self.table = dict(levels)
        self.early = nn.ModuleDict(
            {
                name: EARLY_FORMS[level.fusion](widths[FRAMES], widths[level.stream], config)
                for name, level in levels.items()
                if level.fusion != "none"
            }
        )

    def forward(self, streams: Mapping[str, Tokens]) -> dict[str, LevelTokens]:
        """Tokens of each level, by name. A video without frames is out of every level: its
        file could not be seen, and what else there is of it can't be placed."""
        frames = streams[FRAMES]
        levels = {}
        for name, level in self.table.items():
            other = streams[level.stream]
            if level.fusion == "none":
                levels[name] = LevelTokens(other, frames.present & other.present)
            else:
                tokens = self.early[name](frames, other)
                levels[name] = LevelTokens(tokens, frames.present, other.present)
        return levels


def level_scores(
    queries: Tokens, frames: Tokens, levels: Mapping[str, LevelTokens]
) -> tuple[Tensor, Tensor]:
    """Scores (L, Q, B) and validity (L, B) of all levels, in the order of the table.

    One scorer serves all, and a video without the modality takes the score of its frames, so
    that falling back is exact and not only close.
    """
    by_frames_QB = mean_score(queries, frames)
    scores = []
    for level in levels.values():
        if level.tokens is frames:
            scores.append(by_frames_QB)
        elif level.fused is None:
            scores.append(mean_score(queries, level.tokens))
        else:
            scores.append(torch.where(level.fused, mean_score(queries, level.tokens), by_frames_QB))
    return torch.stack(scores), torch.stack([level.valid for level in levels.values()])
