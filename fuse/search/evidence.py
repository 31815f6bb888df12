"""Where in a video a query matches: for each level the row that is nearest to the sentence.

Our reading. The score of a level is of all its rows; the row whose cosine with the adapted
sentence is highest shows best what the score is made of, with either scorer. Rows of an early
fusion are frames that have looked at another modality, so their times are the frames'.

V videos, F frames, N rows of a level, D joint width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from m2hf.features import Features
from m2hf.fuse.config import FRAMES
from m2hf.fuse.devices import repeatable
from m2hf.fuse.model.levels import LevelTokens
from m2hf.fuse.model.retriever import EncodedVideos
from m2hf.fuse.model.scorers import unit
from m2hf.fuse.model.tokens import Tokens
from m2hf.fuse.search.answer import Moment
from m2hf.fuse.search.index import SearchIndex


@dataclass(frozen=True, eq=False)
class Nearest:
    """row_V: the nearest row of each video; cosine_V: of that row with the sentence."""

    row_V: Tensor
    cosine_V: Tensor

    @classmethod
    def of(cls, sentence_D: Tensor, tokens: Tokens) -> Self:
        cosine_VN = unit(tokens.values) @ unit(sentence_D)
        cosine_V, row_V = cosine_VN.masked_fill(~tokens.mask, -torch.inf).max(dim=1)
        return cls(row_V, cosine_V)


@dataclass(frozen=True)
class Place:
    """moment: in a clip; text: the string of that row, where the level's rows have strings."""

    moment: Moment
    text: str = ""

    @classmethod
    def of(cls, stored: Features, row: int, cosine: float) -> Self:
        moment = Moment(float(stored.start_s[row]), float(stored.end_s[row]), cosine)
        return cls(moment, stored.texts[row] if stored.texts else "")


@dataclass(frozen=True, eq=False)
class Evidence:
    """The best frame of one video, and where each level that knows it matches best."""

    frame: Moment
    levels: Mapping[str, Place]

    @classmethod
    @torch.no_grad()
    def of(cls, index: SearchIndex, query: Features, ids: Sequence[str]) -> list[Self]:
        """Of each of the videos `ids`, which all have frames."""
        with repeatable(index.config) as device:
            asked = index.query(query, device)
            parts = list(zip(asked, index.encoded(ids, device), strict=True))
        stored = [index.store[FRAMES].features(video) for video in ids]
        best = _best_frames(parts, index)
        levels = [_places(index, ids, stored, *part) for part in parts]
        return [
            cls(
                Place.of(stored[v], int(best.row_V[v]), float(best.cosine_V[v])).moment,
                {name: place for part in levels for name, place in part[v].items()},
            )
            for v in range(len(ids))
        ]


def _best_frames(parts: Sequence[tuple[Tokens, EncodedVideos]], index: SearchIndex) -> Nearest:
    """By the model that has a level of the frames alone, or else by the first one."""
    alone = {name for name, level in index.config.active_levels.items() if level.stream == FRAMES}
    query, videos = next((p for p in parts if alone & set(p[1].levels)), parts[0])
    return Nearest.of(query.values[0, 0], videos.frames)


def _places(
    index: SearchIndex,
    ids: Sequence[str],
    frames: Sequence[Features],
    query: Tokens,
    videos: EncodedVideos,
) -> list[dict[str, Place]]:
    """By video, the places of the levels of one model."""
    sentence_D = query.values[0, 0]
    by_frame = Nearest.of(sentence_D, videos.frames)
    found: list[dict[str, Place]] = [{} for _ in ids]
    for name, level in videos.levels.items():
        nearest = _of_level(sentence_D, level, by_frame, videos.frames.mask.shape[1])
        role = index.config.active_levels[name].stream
        for v, video in enumerate(ids):
            if level.valid[v]:
                stored = frames[v] if level.fused is not None else index.store[role].features(video)
                place = Place.of(stored, int(nearest.row_V[v]), float(nearest.cosine_V[v]))
                found[v][name] = place
    return found


def _of_level(sentence_D: Tensor, level: LevelTokens, by_frame: Nearest, frames: int) -> Nearest:
    """What is fused has the frames' rows, once or twice, and where it doesn't count the frames."""
    nearest = Nearest.of(sentence_D, level.tokens)
    if level.fused is None:
        return nearest
    row_V = torch.where(level.fused, nearest.row_V % frames, by_frame.row_V)
    return Nearest(row_V, torch.where(level.fused, nearest.cosine_V, by_frame.cosine_V))
