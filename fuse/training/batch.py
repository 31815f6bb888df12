"""A training batch, encoded and scored by one process or by a group that shares the work.

Q captions, B videos that they describe, L levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from m2hf.fuse.distributed import ProcessGroup
from m2hf.fuse.features.gallery import Gallery
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model.levels import completion_loss
from m2hf.fuse.model.retriever import M2HF, EncodedVideos, LevelScores
from m2hf.fuse.model.tokens import Tokens, caption_tokens, video_tokens
from m2hf.manifest import Caption

_PER_VIDEO = ("valid", "fused", "completion_loss", "has_target")  # of LevelTokens, (B,) each


@dataclass(frozen=True, eq=False)
class ScoredBatch:
    """scores of every caption against every video; positives (Q, B) bool; completion_loss: None
    where no modality is predicted. Equal in every process of the group."""

    scores: LevelScores
    positives: Tensor
    completion_loss: Tensor | None

    @classmethod
    def of(
        cls, model: M2HF, store: FeatureStore, captions: Sequence[Caption], group: ProcessGroup
    ) -> Self:
        """Encode and score `captions` and their videos.

        Each process of a group reads and encodes its share of the captions and of the videos,
        gathers the other videos, and scores its captions against all of them.
        """
        batch = Gallery.of_captions(captions)
        ids = batch.video_ids
        positives_QB = torch.from_numpy(batch.positives_QV)
        own = batch.query_ids[group.share(len(captions))]
        tokens = caption_tokens(store, own, model.query_rows, group.device)
        (videos,) = model.encode_videos(_streams(store, ids, group))
        queries = model.encode_queries(tokens)
        if group.size > 1:
            videos = _gathered(videos, len(ids), group)
        scores = model.score(queries, [videos])
        if group.size > 1:
            (levels_QLB,) = group.gather(len(captions), scores.levels.transpose(0, 1))
            levels_LQB = levels_QLB.transpose(0, 1)
            scores = LevelScores(levels_LQB, scores.valid)
        return cls(scores, positives_QB.to(group.device), completion_loss(videos.levels))


def kept_levels(drawn_LQ: Tensor, dropout: float, valid_LB: Tensor, positives_QB: Tensor) -> Tensor:
    """(L, Q) bool: the levels that each caption keeps, those whose number in `drawn_LQ`, uniform in
    [0, 1), is at least `dropout`; where none of them covers the caption's video, the one with the
    highest number of those that do stays, too."""
    kept_LQ = drawn_LQ >= dropout
    covering_LQ = (valid_LB.float() @ positives_QB.float().T) > 0
    last_Q = torch.where(covering_LQ, drawn_LQ, -1.0).argmax(dim=0)
    last_LQ = torch.arange(len(drawn_LQ), device=drawn_LQ.device)[:, None] == last_Q
    return kept_LQ | (last_LQ & covering_LQ)


def _streams(store: FeatureStore, ids: Sequence[str], group: ProcessGroup) -> Mapping[str, Tokens]:
    """This process's share of the videos `ids`, padded to the longest video of the batch."""
    own = video_tokens(store, ids[group.share(len(ids))], group.device)
    if group.size == 1:
        return own
    longest = {role: max(1, int(store[role].lengths(ids).max())) for role in own}
    return {role: tokens.widened(longest[role]) for role, tokens in own.items()}


def _gathered(videos: EncodedVideos, n: int, group: ProcessGroup) -> EncodedVideos:
    """All `n` videos. Tokens that are one object stay one, and are scored once."""
    levels = videos.levels
    distinct = {id(t): t for t in (videos.frames, *(level.tokens for level in levels.values()))}
    parts = [x for t in distinct.values() for x in (t.values, t.mask, t.time_s)]
    columns = [getattr(level, name) for level in levels.values() for name in _PER_VIDEO]
    rows = iter(group.gather(n, *parts, *(x for x in columns if x is not None)))
    whole = {key: Tokens(next(rows), next(rows), next(rows)) for key in distinct}
    gathered = {}
    for name, level in levels.items():
        given = [x for x in _PER_VIDEO if getattr(level, x) is not None]
        changes: dict[str, Any] = {x: next(rows) for x in given}
        gathered[name] = replace(level, tokens=whole[id(level.tokens)], **changes)
    return EncodedVideos(whole[id(videos.frames)], gathered)
