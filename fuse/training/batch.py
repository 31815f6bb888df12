"""A training batch, encoded and scored: by one process, or by several that share the work.

Q captions, B videos that they are of, L levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from m2hf.fuse.distributed import World
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model.levels import completion_regret
from m2hf.fuse.model.retriever import M2HF, EncodedVideos, Scores
from m2hf.fuse.model.tokens import Tokens, caption_tokens, video_tokens
from m2hf.manifest import Caption

_OF_A_VIDEO = ("valid", "fused", "regret", "known")  # of LevelTokens, (B,) each


@dataclass(frozen=True, eq=False)
class ScoredBatch:
    """scores of every caption against every video; positives (Q, B) bool; regret: of
    completion, None where nothing is predicted. The same in every process."""

    scores: Scores
    positives: Tensor
    regret: Tensor | None

    @classmethod
    def of(
        cls, model: M2HF, store: FeatureStore, captions: Sequence[Caption], world: World
    ) -> Self:
        """Encode and score `captions` and the videos that they are of.

        Of several processes each reads and encodes its share of the captions and of the videos,
        gets the other videos from the others, and scores its captions against all of them.
        """
        place = {video: i for i, video in enumerate(dict.fromkeys(c.video for c in captions))}
        answers = np.array([place[caption.video] for caption in captions])
        positives_QB = torch.from_numpy(answers[:, None] == np.arange(len(place)))
        own = [caption.id for caption in captions[world.share(len(captions))]]
        asked = caption_tokens(store, own, model.query_rows, world.device)
        videos = model.encode_videos(_streams(store, list(place), world))
        queries = model.encode_queries(asked)
        if world.size > 1:
            videos = _gathered(videos, len(place), world)
        scores = model.score(queries, videos)
        if world.size > 1:
            (levels_QLB,) = world.gather(len(captions), scores.levels.transpose(0, 1))
            levels_LQB = levels_QLB.transpose(0, 1)
            scores = Scores(levels_LQB, scores.valid, model.late(levels_LQB, scores.valid))
        return cls(scores, positives_QB.to(world.device), completion_regret(videos.levels))


def _streams(store: FeatureStore, ids: Sequence[str], world: World) -> Mapping[str, Tokens]:
    """This process's share of the videos `ids`, as wide as the whole batch is."""
    own = video_tokens(store, ids[world.share(len(ids))], world.device)
    if world.size == 1:
        return own
    longest = {role: max(1, int(store[role].lengths(ids).max())) for role in own}
    return {role: tokens.widened(longest[role]) for role, tokens in own.items()}


def _gathered(videos: EncodedVideos, n: int, world: World) -> EncodedVideos:
    """All `n` videos. Tokens that are one object stay one: one score of them."""
    levels = videos.levels
    distinct = {id(t): t for t in (videos.frames, *(level.tokens for level in levels.values()))}
    parts = [x for t in distinct.values() for x in (t.values, t.mask, t.time_s)]
    given = [getattr(level, name) for level in levels.values() for name in _OF_A_VIDEO]
    rows = iter(world.gather(n, *parts, *(x for x in given if x is not None)))
    whole = {key: Tokens(next(rows), next(rows), next(rows)) for key in distinct}
    gathered = {}
    for name, level in levels.items():
        known = [x for x in _OF_A_VIDEO if getattr(level, x) is not None]
        changes = {x: next(rows) for x in known}
        gathered[name] = replace(level, tokens=whole[id(level.tokens)], **changes)
    return EncodedVideos(whole[id(videos.frames)], gathered)
