"""M2HF on cached features: adapters, early fusion, levels, late fusion.

End to end, one model holds all levels; as an ensemble, each level is a model of its own.

B videos, Q queries, N rows, M width of a stream, D joint width, L levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from m2hf.fuse.config import CAPTIONS, FRAMES, FusionConfig
from m2hf.fuse.model.adapters import adapters, joint_width
from m2hf.fuse.model.calibration import AffineCalibration
from m2hf.fuse.model.contrastive import ContrastiveLoss
from m2hf.fuse.model.levels import Levels, LevelTokens, level_scores
from m2hf.fuse.model.scorers import SCORERS
from m2hf.fuse.model.tokens import Tokens


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


class Retriever(nn.Module):
    """Queries and videos in, scores of every level and their late fusion out."""

    contrast: ContrastiveLoss

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.level_names = tuple(config.active_levels)
        self.query_rows = SCORERS[config.scoring].query_rows
        self.late = AffineCalibration(len(self.level_names))

    @property
    def late_rule(self) -> str:
        """The rule that finished scores are fused by, which may be chosen after training."""
        return self.config.late.rule

    def encode_queries(self, captions: Tokens) -> Any:
        """Captions (Q, W, M), ready to be scored: row 0 the sentence, further rows its tokens."""
        raise NotImplementedError

    def encode_videos(self, streams: Mapping[str, Tokens]) -> Any:
        """B videos, whose streams are given by role, ready to be scored."""
        raise NotImplementedError

    def score(self, queries: Any, videos: Any) -> Scores:
        """Every query against every video."""
        raise NotImplementedError

    def condensed(self, videos: Any) -> Any:
        """The same videos in as few rows as give the same scores, to the bit."""
        raise NotImplementedError

    def parts(self, queries: Any, videos: Any) -> list[tuple[Tokens, EncodedVideos]]:
        """What is encoded, by model: each knows the levels that its videos have."""
        raise NotImplementedError

    def forward(self, captions: Tokens, streams: Mapping[str, Tokens]) -> Scores:
        """Encode and score one batch."""
        return self.score(self.encode_queries(captions), self.encode_videos(streams))


class M2HF(Retriever):
    """All levels over shared adapters and one scorer."""

    def __init__(self, config: FusionConfig, widths: Mapping[str, int]) -> None:
        """widths: columns of each role's stream in the store."""
        super().__init__(config)
        joint = joint_width(config, widths)
        self.adapters = adapters(config, widths)
        self.levels = Levels(config, {**widths, **dict.fromkeys(config.joint_roles, joint)})
        self.scorer = SCORERS[config.scoring](joint, config.model)
        self.bf16 = config.precision == "bf16"
        self.contrast = ContrastiveLoss()

    def encode_queries(self, captions: Tokens) -> Tokens:
        """Adapt captions (Q, W, M): row 0 is the sentence, further rows its tokens."""
        with self._autocast(captions):
            return _full(self._adapt(CAPTIONS, captions))

    def encode_videos(self, streams: Mapping[str, Tokens]) -> EncodedVideos:
        """Adapt and fuse the streams of B videos, given by role."""
        with self._autocast(streams[FRAMES]):
            adapted = {role: _full(self._adapt(role, t)) for role, t in streams.items()}
            levels = self.levels(adapted)
        # What is not fused is in fp32 already, and frames stay one object: one score of them.
        whole = {
            name: replace(level, tokens=_full(level.tokens)) if level.fused is not None else level
            for name, level in levels.items()
        }
        return EncodedVideos(adapted[FRAMES], whole)

    def score(self, queries: Tokens, videos: EncodedVideos) -> Scores:
        """Every query against every video."""
        levels_LQB, valid_LB = level_scores(self.scorer, queries, videos.frames, videos.levels)
        return Scores(levels_LQB, valid_LB, self.late(levels_LQB, valid_LB))

    def condensed(self, videos: EncodedVideos) -> EncodedVideos:
        """Tokens that are one object stay one: one score of them."""
        tokens = [videos.frames, *(level.tokens for level in videos.levels.values())]
        distinct = {id(t): t for t in tokens}
        short = {key: self.scorer.condensed(t) for key, t in distinct.items()}
        levels = {n: replace(v, tokens=short[id(v.tokens)]) for n, v in videos.levels.items()}
        return EncodedVideos(short[id(videos.frames)], levels)

    def parts(self, queries: Tokens, videos: EncodedVideos) -> list[tuple[Tokens, EncodedVideos]]:
        """One part."""
        return [(queries, videos)]

    def _autocast(self, tokens: Tokens) -> torch.autocast:
        return torch.autocast(tokens.values.device.type, torch.bfloat16, enabled=self.bf16)

    def _adapt(self, role: str, tokens: Tokens) -> Tokens:
        if role not in self.adapters:
            return tokens
        return Tokens(self.adapters[role](tokens.values), tokens.mask, tokens.time_s)


class Ensemble(Retriever):
    """A model of its own for each level, late fused."""

    def __init__(self, config: FusionConfig, widths: Mapping[str, int]) -> None:
        """widths: as of M2HF."""
        super().__init__(config)
        alone = {name: config.only(name) for name in self.level_names}
        self.contrast = ContrastiveLoss()  # for calibration, at the members' mean temperature
        self.members = nn.ModuleDict({name: M2HF(c, widths) for name, c in alone.items()})

    def encode_queries(self, captions: Tokens) -> list[Tokens]:
        """One for each level."""
        return [member.encode_queries(captions) for member in self._members()]

    def encode_videos(self, streams: Mapping[str, Tokens]) -> list[EncodedVideos]:
        """One for each level."""
        return [member.encode_videos(streams) for member in self._members()]

    def score(self, queries: list[Tokens], videos: list[EncodedVideos]) -> Scores:
        """Every query against every video."""
        parts = [m.score(q, v) for m, q, v in zip(self._members(), queries, videos, strict=True)]
        levels_LQB = torch.cat([part.levels for part in parts])
        valid_LB = torch.cat([part.valid for part in parts])
        return Scores(levels_LQB, valid_LB, self.late(levels_LQB, valid_LB))

    def condensed(self, videos: list[EncodedVideos]) -> list[EncodedVideos]:
        """One for each level."""
        return [m.condensed(v) for m, v in zip(self._members(), videos, strict=True)]

    def parts(
        self, queries: list[Tokens], videos: list[EncodedVideos]
    ) -> list[tuple[Tokens, EncodedVideos]]:
        """A part for each level."""
        return list(zip(queries, videos, strict=True))

    @torch.no_grad()
    def mean_temperature(self, known_L: Tensor) -> None:
        """Take, for calibration, the mean temperature of the members whose level (L,) somebody
        has: the others had nothing to learn theirs from."""
        scales_L = torch.stack([member.contrast.log_scale for member in self._members()])
        if known_L.any():
            self.contrast.log_scale.copy_(scales_L[known_L.to(scales_L.device)].mean())

    def _members(self) -> list[M2HF]:
        return [member for member in self.members.values() if isinstance(member, M2HF)]


def _full(tokens: Tokens) -> Tokens:
    """In fp32, in which scores and losses are taken: cosines of bf16 would tie."""
    return Tokens(tokens.values.float(), tokens.mask, tokens.time_s)


def build_model(config: FusionConfig, widths: Mapping[str, int]) -> Retriever:
    """The model that `config.strategy` trains."""
    made = {"end_to_end": M2HF, "ensemble": Ensemble}[config.strategy]
    return made(config, widths)
