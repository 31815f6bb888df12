"""The levels of M2HF, built from the table of the config: each is tokens that a query meets.

B videos, Q queries, N tokens, D joint width, L levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from m2hf.fuse.config import FRAMES, FusionConfig
from m2hf.fuse.model.completion import COMPLETIONS, Completed
from m2hf.fuse.model.early import EARLY_FORMS
from m2hf.fuse.model.scorers import Scorer
from m2hf.fuse.model.tokens import Tokens


@dataclass(frozen=True, eq=False)
class LevelTokens:
    """What one level offers of B videos.

    tokens: (B, N, D); valid: (B,) whether the level says anything of a video; fused: (B,)
    whether its tokens count, or else the frames in their place; None where nothing is fused;
    regret, known: (B,) of a predicted modality (`Completed`), None where none is.
    """

    tokens: Tokens
    valid: Tensor
    fused: Tensor | None = None
    regret: Tensor | None = None
    known: Tensor | None = None


class Levels(nn.Module):
    """All enabled levels; the early fusions are trained."""

    def __init__(self, config: FusionConfig, widths: Mapping[str, int]) -> None:
        """widths: by role, D of what lies in the joint space by now, M of what does not."""
        super().__init__()
        self.table = config.active_levels
        self.early, self.completion = nn.ModuleDict(), nn.ModuleDict()
        complete = COMPLETIONS[config.completion.mode]
        for name, level in self.table.items():
            if level.fusion != "none":
                joint, other = widths[FRAMES], widths[level.stream]
                self.early[name] = EARLY_FORMS[level.fusion](joint, other, config.model)
                self.completion[name] = complete(joint, other, config.model, config.completion)

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
                whole: Completed = self.completion[name](frames, other)
                tokens = self.early[name](frames, whole.tokens)
                levels[name] = LevelTokens(
                    tokens, frames.present, whole.counts, whole.regret, whole.known
                )
        return levels


def level_scores(
    scorer: Scorer, queries: Tokens, frames: Tokens, levels: Mapping[str, LevelTokens]
) -> tuple[Tensor, Tensor]:
    """Scores (L, Q, B) and validity (L, B) of all levels, in the order of the table.

    One scorer serves all, and a video without the modality takes the score of its frames, so
    that falling back is exact and not only close.
    """
    by_frames_QB: Tensor = scorer(queries, frames)
    scores = []
    for level in levels.values():
        if level.tokens is frames:
            scores.append(by_frames_QB)
        elif level.fused is None:
            scores.append(scorer(queries, level.tokens))
        else:
            scores.append(torch.where(level.fused, scorer(queries, level.tokens), by_frames_QB))
    return torch.stack(scores), torch.stack([level.valid for level in levels.values()])


def completion_regret(levels: Mapping[str, LevelTokens]) -> Tensor | None:
    """Mean of 1 - cos(m^, m) over videos whose m is known, summed over predicting levels; 0 for
    a modality that is missing everywhere, None where nothing is predicted."""
    regrets = [
        torch.where(level.known, level.regret, 0.0).sum() / level.known.sum().clamp(min=1)
        for level in levels.values()
        if level.regret is not None and level.known is not None
    ]
    return torch.stack(regrets).sum() if regrets else None
