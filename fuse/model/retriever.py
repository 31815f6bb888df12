"""M2HF on cached features: adapters, early fusion, levels, late fusion.

Trained end to end, one network holds all levels; as an ensemble, each level has its own.

B videos, Q queries, N rows, M width of a stream, D joint width, L levels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.statistics import ColumnStatistics
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.model.adapters import adapters, joint_widths, pooled_first
from m2hf.fuse.model.contrastive import ContrastiveLoss, Temperature
from m2hf.fuse.model.late_fusion import LATE_FUSIONS, LateFusion
from m2hf.fuse.model.levels import EncodedQueries, Levels, LevelTokens, level_scores
from m2hf.fuse.model.scorers import SCORERS, Scorer
from m2hf.fuse.model.standardise import Standardise, standardisers
from m2hf.fuse.model.tokens import Tokens
from m2hf.fuse.model.words import WordStatistics


@dataclass(frozen=True, eq=False)
class EncodedVideos:
    """B videos encoded by one network: adapted frames, and the tokens of its levels by name."""

    frames: Tokens
    levels: dict[str, LevelTokens]


@dataclass(frozen=True, eq=False)
class LevelScores:
    """Of the trained levels: levels (L, Q, B), in [-1, 1]; valid (L, B) bool."""

    levels: Tensor
    valid: Tensor


class Retriever(nn.Module):
    """Queries and videos in, scores of every trained level out; and what fuses all levels.

    A retriever consists of networks that each hold some of the levels: `M2HF` is one network with
    all levels, `Ensemble` has one a level. What is encoded is a list with an entry a network.
    words: statistics of each level of words, by name (`word_index.fitted`), which are no weights;
    their scores follow those of the networks (`WordBlock`).
    """

    contrast: ContrastiveLoss
    words: Mapping[str, WordStatistics]

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.level_names = tuple(config.active_levels)
        self.query_rows = SCORERS[config.scoring].query_rows
        levels = len(self.level_names)
        self.late_fusions = nn.ModuleDict({n: made(levels) for n, made in LATE_FUSIONS.items()})
        self.words = {}

    @property
    def late_rule(self) -> str:
        """Name of the rule that fuses scores after training; it may be chosen then."""
        return self.config.late.rule

    @property
    def late(self) -> LateFusion:
        """The late fusion of training, whose statistics every rule reads."""
        return cast("LateFusion", self.late_fusions[self.config.late.trained])

    @property
    def trained_rules(self) -> list[LateFusion]:
        """A late fusion for each rule that has parameters."""
        return [cast("LateFusion", late) for late in self.late_fusions.values()]

    def networks(self) -> list["M2HF"]:
        """The networks, in the order of their levels."""
        raise NotImplementedError

    def encode_queries(self, captions: Mapping[str, Tokens]) -> list[EncodedQueries]:
        """Captions (Q, W, M) by query role, row 0 the sentence and further rows its tokens, in the
        joint spaces."""
        return [network.adapt_captions(captions) for network in self.networks()]

    def encode_videos(self, streams: Mapping[str, Tokens]) -> list[EncodedVideos]:
        """B videos, whose streams are given by role: adapted and fused early."""
        return [network.fuse_streams(streams) for network in self.networks()]

    def score(
        self, queries: Sequence[EncodedQueries], videos: Sequence[EncodedVideos]
    ) -> LevelScores:
        """Score every query against every video, with what the two encode methods returned."""
        parts = [
            level_scores(network.scorers, own_queries, own_videos.frames, own_videos.levels)
            for network, own_queries, own_videos in zip(
                self.networks(), queries, videos, strict=True
            )
        ]
        levels_LQB = torch.cat([scores for scores, _ in parts])
        return LevelScores(levels_LQB, torch.cat([valid for _, valid in parts]))

    def prepared(self, videos: Sequence[EncodedVideos]) -> list[EncodedVideos]:
        """The same videos as they are kept for many queries: in as few rows as give bit-identical
        scores, and at norm 1 where that is all that a query needs."""
        return [n.prepare(own) for n, own in zip(self.networks(), videos, strict=True)]

    def prepared_queries(self, queries: Sequence[EncodedQueries]) -> list[EncodedQueries]:
        """The same queries as they are scored against many blocks of videos."""
        return [
            EncodedQueries(
                network.scorer.prepared(own.shared),
                {name: network.scorer.prepared(tokens) for name, tokens in own.own.items()},
            )
            for network, own in zip(self.networks(), queries, strict=True)
        ]

    def forward(self, captions: Mapping[str, Tokens], streams: Mapping[str, Tokens]) -> LevelScores:
        """Encode and score one batch."""
        return self.score(self.encode_queries(captions), self.encode_videos(streams))


class M2HF(Retriever):
    """One network: all levels over shared adapters and one scorer for each query role."""

    def __init__(self, config: FusionConfig, widths: Mapping[str, int]) -> None:
        """widths: columns of each role's stream in the store."""
        super().__init__(config)
        joint = joint_widths(config, widths)
        self.standardisers = standardisers(config, widths)
        self.adapters = adapters(config, widths)
        self.pooled_first = pooled_first(config)
        self.levels = Levels(config, {**widths, **joint})
        scorer = SCORERS[config.scoring]
        self.scorer: Scorer = scorer(joint[CAPTIONS], config.model)
        others = dict.fromkeys(q for q in config.spaces.values() if q != CAPTIONS)
        self.other_scorers = nn.ModuleDict({q: scorer(joint[q], config.model) for q in others})
        self.bf16 = config.precision == "bf16"
        self.contrast = ContrastiveLoss()
        own = bool(self.levels.captions)
        self.own_temperature = Temperature(len(config.trained_levels)) if own else None

    def networks(self) -> list["M2HF"]:
        """Itself."""
        return [self]

    @property
    def scorers(self) -> dict[str, Scorer]:
        """By query role: each has its own space."""
        others = {query: cast("Scorer", other) for query, other in self.other_scorers.items()}
        return {CAPTIONS: self.scorer, **others}

    @property
    def scale_L(self) -> Tensor:
        """(L,) 1 / temperature of each level's own loss: that of the fusion where captions are
        shared."""
        if self.own_temperature is not None:
            return self.own_temperature.scale
        return self.contrast.scale.expand(len(self.config.trained_levels))

    def standardise(self, statistics: Callable[[str], ColumnStatistics]) -> None:
        """Standardise streams by the statistics of the training part, which are asked for by role;
        before training."""
        for role, module in self.standardisers.items():
            assert isinstance(module, Standardise)
            module.fit(statistics(role))

    def adapt_captions(self, captions: Mapping[str, Tokens]) -> EncodedQueries:
        """Captions (Q, W, M) by query role -> (Q, W, D) in joint space, fp32, for each level."""
        config = self.config
        with self._autocast(captions[CAPTIONS]):
            adapted = {q: self._adapt(q, captions[q]) for q in self.scorers}
            given = {q: captions[q] if config.comparable_by(q) else adapted[q] for q in adapted}
            own = self.levels.captions_of(given, adapted)
        shared = _to_fp32(adapted[CAPTIONS])
        return EncodedQueries(shared, {name: _to_fp32(t) for name, t in own.items()})

    def fuse_streams(self, streams: Mapping[str, Tokens]) -> EncodedVideos:
        """Adapt the streams of B videos, given by role, and apply early fusion."""
        with self._autocast(streams[FRAMES]):
            adapted = {role: _to_fp32(self._adapt(role, t)) for role, t in streams.items()}
            levels = self.levels(adapted)
        # Tokens that are not fused are in fp32 already; frames stay one object, scored once.
        whole = {
            name: replace(level, tokens=_to_fp32(level.tokens))
            if level.fused is not None
            else level
            for name, level in levels.items()
        }
        return EncodedVideos(adapted[FRAMES], whole)

    def prepare(self, videos: EncodedVideos) -> EncodedVideos:
        """As `prepared`, for this network; tokens that are one object stay one, scored once."""
        tokens = [videos.frames, *(level.tokens for level in videos.levels.values())]
        distinct = {id(t): t for t in tokens}
        short = {key: self.scorer.prepared(t) for key, t in distinct.items()}
        levels = {n: replace(v, tokens=short[id(v.tokens)]) for n, v in videos.levels.items()}
        return EncodedVideos(short[id(videos.frames)], levels)

    def _autocast(self, tokens: Tokens) -> torch.autocast:
        return torch.autocast(tokens.values.device.type, torch.bfloat16, enabled=self.bf16)

    def _adapt(self, role: str, tokens: Tokens) -> Tokens:
        if self.training and role in self.pooled_first:
            tokens = self.scorer.condensed(tokens)
        if role in self.standardisers:
            tokens = self.standardisers[role](tokens)
        if role not in self.adapters:
            return tokens
        return Tokens(self.adapters[role](tokens.values), tokens.mask, tokens.time_s)


class Ensemble(Retriever):
    """One network a level, each trained on its own, then late fused."""

    def __init__(self, config: FusionConfig, widths: Mapping[str, int]) -> None:
        """widths: as of M2HF."""
        super().__init__(config)
        alone = {name: config.only(name) for name in config.trained_levels}
        self.contrast = ContrastiveLoss()  # for calibration, at the members' mean temperature
        self.members = nn.ModuleDict({name: M2HF(c, widths) for name, c in alone.items()})

    def networks(self) -> list[M2HF]:
        """The members."""
        return [member for member in self.members.values() if isinstance(member, M2HF)]

    @torch.no_grad()
    def mean_temperature(self, available_L: Tensor) -> None:
        """Set the temperature of calibration to the mean of the members whose level has a video
        (available_L, of the trained levels): the others were not trained."""
        scales_L = torch.stack([network.contrast.log_scale for network in self.networks()])
        if available_L.any():
            self.contrast.log_scale.copy_(scales_L[available_L.to(scales_L.device)].mean())


def _to_fp32(tokens: Tokens) -> Tokens:
    """In fp32, in which scores and losses are computed: cosines in bf16 would tie."""
    return Tokens(tokens.values.float(), tokens.mask, tokens.time_s)


def build_model(config: FusionConfig, widths: Mapping[str, int]) -> Retriever:
    """The untrained retriever of `config.strategy`; widths: as of M2HF."""
    if config.strategy == "ensemble":
        return Ensemble(config, widths)
    return M2HF(config, widths)
