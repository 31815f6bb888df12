"""The trained levels, built from the config: each gives tokens that queries are scored against.

B videos, Q queries, N tokens, D joint width, L levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from m2hf.fuse.config import FusionConfig
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.model.adapters import ResidualAdapter, own_captions
from m2hf.fuse.model.completion import COMPLETIONS, Completed
from m2hf.fuse.model.early import EARLY_FORMS
from m2hf.fuse.model.scorers import Scorer
from m2hf.fuse.model.tokens import Tokens


@dataclass(frozen=True, eq=False)
class LevelTokens:
    """The tokens of one level for B videos.

    tokens: (B, N, D); valid: (B,) bool, whether the level has a score for a video; fused: (B,)
    bool, whether its tokens are scored or the frames instead, None for a level without early
    fusion; completion_loss, has_target: (B,) of a predicted modality (`Completed`), else None;
    query: the query role in whose joint space they are.
    """

    tokens: Tokens
    valid: Tensor
    fused: Tensor | None = None
    completion_loss: Tensor | None = None
    has_target: Tensor | None = None
    query: str = CAPTIONS


@dataclass(frozen=True, eq=False)
class EncodedQueries:
    """Q queries encoded by one network: shared, which frames are scored against, and by name those
    of the levels that have their own or another query role; each (Q, W, D)."""

    shared: Tokens
    own: Mapping[str, Tokens]

    def of_level(self, name: str) -> Tokens:
        """What the level's tokens are scored against."""
        return self.own.get(name, self.shared)


class Levels(nn.Module):
    """All trained levels, with the early fusion and completion of those that fuse, and the caption
    adapters of those that have their own."""

    def __init__(self, config: FusionConfig, widths: Mapping[str, int]) -> None:
        """widths: by role, D of adapted roles in the joint space, M of the others."""
        super().__init__()
        self.table = config.trained_levels
        self.early, self.completion = nn.ModuleDict(), nn.ModuleDict()
        complete = COMPLETIONS[config.completion.mode]
        for name, level in self.table.items():
            if level.fusion != "none":
                joint, other = widths[FRAMES], widths[level.stream]
                self.early[name] = EARLY_FORMS[level.fusion](joint, other, config.model)
                self.completion[name] = complete(joint, other, config.model, config.completion)
        model, self.captions = config.model, nn.ModuleDict()
        for name in own_captions(config):
            joint = widths[self.table[name].query]
            self.captions[name] = ResidualAdapter(joint, model.width, model.dropout)

    def captions_of(
        self, captions: Mapping[str, Tokens], adapted: Mapping[str, Tokens]
    ) -> dict[str, Tokens]:
        """(Q, W, D) for each level that adapts captions on its own or has another query role than
        the frames'. captions, adapted: in the joint spaces, by query role; what such levels adapt,
        and what the others compare."""
        found = {}
        for name, level in self.table.items():
            if name in self.captions:
                given = captions[level.query]
                values = self.captions[name](given.values)
                found[name] = Tokens(values, given.mask, given.time_s)
            elif level.query != CAPTIONS:
                found[name] = adapted[level.query]
        return found

    def forward(self, streams: Mapping[str, Tokens]) -> dict[str, LevelTokens]:
        """Tokens of each level, by name. A video without frames is invalid in every level: its
        file could not be decoded."""
        frames = streams[FRAMES]
        levels = {}
        for name, level in self.table.items():
            other = streams[level.stream]
            if level.fusion == "none":
                valid = frames.present & other.present
                levels[name] = LevelTokens(other, valid, query=level.query)
            else:
                whole: Completed = self.completion[name](frames, other)
                tokens = self.early[name](frames, whole.tokens)
                levels[name] = LevelTokens(
                    tokens, frames.present, whole.present, whole.completion_loss, whole.has_target
                )
        return levels


def level_scores(
    scorers: Mapping[str, Scorer],
    queries: EncodedQueries,
    frames: Tokens,
    levels: Mapping[str, LevelTokens],
) -> tuple[Tensor, Tensor]:
    """Scores (L, Q, B) and validity (L, B) of all levels, in the order of the table. scorers: by
    query role.

    One scorer serves all levels of a space, and a video without the modality gets the score of its
    frames and the shared query, so that the fallback is exact in the score, too.
    """
    frames_QB: Tensor = scorers[CAPTIONS](queries.shared, frames)
    scores = []
    for name, level in levels.items():
        query, scorer = queries.of_level(name), scorers[level.query]
        if level.tokens is frames:
            scores.append(frames_QB)
        elif level.fused is None:
            scores.append(scorer(query, level.tokens))
        else:
            scores.append(torch.where(level.fused, scorer(query, level.tokens), frames_QB))
    return torch.stack(scores), torch.stack([level.valid for level in levels.values()])


def completion_loss(levels: Mapping[str, LevelTokens]) -> Tensor | None:
    """Mean of 1 - cos(m^, m) over videos that have m, summed over levels that predict; 0 for a
    modality that no video has, None where no level predicts."""
    losses = [
        torch.where(level.has_target, level.completion_loss, 0.0).sum()
        / level.has_target.sum().clamp(min=1)
        for level in levels.values()
        if level.completion_loss is not None and level.has_target is not None
    ]
    return torch.stack(losses).sum() if losses else None
