"""The plainest trained model: one linear map from each side into the captions' space.

A video is the mean row of each of its streams, standardised, joined and regularised by dropout; a
caption is its sentence vector, and its map starts as the identity. Symmetric cross-entropy, in
which a video has as many positives as captions in the batch. Nothing of `m2hf.fuse.model` is
used, so that a mistake there can't hide in both.

Q queries, V videos, X width of the joined streams, D width of the captions.
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from m2hf.array_types import FloatArray
from m2hf.fuse.scores.metrics import text_to_video
from m2hf.fuse.scores.pooled import PooledSplit
from m2hf.fuse.scores.similarity_file import MISSING_SCORE

EPOCHS, PATIENCE = 20, 5
_BATCH, _RATE, _DECAY, _WARMUP = 256, 1e-3, 0.01, 0.1
_DROPOUT, _TEMPERATURE, _SHARPEST = 0.3, 0.05, 0.01


class _TwoTower(nn.Module):
    def __init__(self, streams: int, captions: int) -> None:
        super().__init__()
        self.video = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(streams, captions))
        self.caption = nn.Linear(captions, captions)
        nn.init.eye_(self.caption.weight)
        nn.init.zeros_(self.caption.bias)
        self.log_scale = nn.Parameter(torch.tensor(-np.log(_TEMPERATURE), dtype=torch.float32))

    def forward(self, queries_QD: Tensor, videos_VX: Tensor) -> Tensor:
        """(Q, V) cosines."""
        captions_QD = functional.normalize(self.caption(queries_QD), dim=1)
        cosines_QV: Tensor = captions_QD @ functional.normalize(self.video(videos_VX), dim=1).T
        return cosines_QV

    def loss(self, queries_QD: Tensor, videos_VX: Tensor, video_of_query: Tensor) -> Tensor:
        """Mean of both directions; each video is the positive of at least one query."""
        scale = self.log_scale.exp().clamp(max=1 / _SHARPEST)
        logits_QV = scale * self(queries_QD, videos_VX)
        own_Q = logits_QV.log_softmax(dim=0)[torch.arange(len(logits_QV)), video_of_query]
        share_Q = 1 / torch.bincount(video_of_query)[video_of_query]
        to_text = -(share_Q * own_Q).sum() / len(videos_VX)
        loss: Tensor = (functional.cross_entropy(logits_QV, video_of_query) + to_text) / 2
        return loss


def two_tower_scores(
    train: PooledSplit, val: PooledSplit, test: PooledSplit, seed: int, threads: int
) -> FloatArray:
    """Scores (Q, V) of `test`, of the epoch with the best R@1 + R@5 + R@10 on `val`; -1 where
    query or video has no features."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    streams = _Streams(train)
    videos_VX, queries_QD = streams.joined(train), _tensor(train.queries_QD)
    truth_Q = train.video_of_query
    model = _TwoTower(videos_VX.shape[1], queries_QD.shape[1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY)
    batches = -(-len(truth_Q) // _BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _schedule(EPOCHS * batches))
    best, kept, stale = -1.0, copy.deepcopy(model.state_dict()), 0
    for _ in range(EPOCHS):
        model.train()
        for chosen in np.array_split(rng.permutation(len(truth_Q)), batches):
            videos, place = np.unique(truth_Q[chosen], return_inverse=True)
            loss = model.loss(queries_QD[chosen], videos_VX[videos], torch.from_numpy(place))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        found = text_to_video(_scores(model, streams, val), val.video_of_query).recall_sum
        stale += 1
        if found > best:
            best, kept, stale = found, copy.deepcopy(model.state_dict()), 0
        if stale == PATIENCE:
            break
    model.load_state_dict(kept)
    return _scores(model, streams, test)


class _Streams:
    """Centre and scale of each column of each stream, over the training videos that have it."""

    def __init__(self, train: PooledSplit) -> None:
        self._statistics = {}
        for role, values_VX in train.pooled.items():
            there = values_VX[train.present[role]]
            deviation = there.std(axis=0) if len(there) else np.zeros(values_VX.shape[1])
            centre = there.mean(axis=0) if len(there) else deviation
            self._statistics[role] = centre, np.where(deviation > 0, deviation, 1.0)

    def joined(self, part: PooledSplit) -> Tensor:
        """(V, X) all streams; zero where a video lacks one."""
        columns = [
            np.where(part.present[role][:, None], (part.pooled[role] - centre) / deviation, 0.0)
            for role, (centre, deviation) in self._statistics.items()
        ]
        return _tensor(np.concatenate(columns, axis=1))


def _scores(model: _TwoTower, streams: _Streams, part: PooledSplit) -> FloatArray:
    model.eval()
    with torch.no_grad():
        scores_QV: FloatArray = model(_tensor(part.queries_QD), streams.joined(part)).numpy()
    scores_QV[~part.present_Q] = MISSING_SCORE
    scores_QV[:, ~np.any(list(part.present.values()), axis=0)] = MISSING_SCORE
    return scores_QV


def _schedule(steps: int) -> Callable[[int], float]:
    """Linear warm-up and cosine decay, as a factor by step."""

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / (_WARMUP * steps))
        return warm * 0.5 * (1 + math.cos(math.pi * step / steps))

    return factor


def _tensor(values: FloatArray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
