"""Where in a video a query matches: for each level the row that is nearest to the sentence.

The paper doesn't define this. The score of a level combines all its rows; with either scorer, the
row with the highest cosine to the adapted sentence contributes most. Rows of an early fusion are
frames that attended to another modality, so their times are the frames'. Of a level of words it is
the string with the highest BM25, if one has a word of the query.

V videos, F frames, N rows of a level, D joint width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from m2hf.features import Features
from m2hf.fuse.devices import repeatable
from m2hf.fuse.level_table import FRAMES
from m2hf.fuse.model.levels import EncodedQueries, LevelTokens
from m2hf.fuse.model.retriever import EncodedVideos
from m2hf.fuse.model.scorers import unit
from m2hf.fuse.model.tokens import Tokens
from m2hf.fuse.model.word_index import WordIndex
from m2hf.fuse.model.words import words_of
from m2hf.fuse.search.index import Query, SearchIndex, sentence_of
from m2hf.fuse.search.results import Moment


@dataclass(frozen=True, eq=False)
class NearestRows:
    """row_V: index of each video's nearest row; cosine_V: of that row and the sentence."""

    row_V: Tensor
    cosine_V: Tensor

    @classmethod
    def of(cls, sentence_D: Tensor, tokens: Tokens) -> Self:
        cosine_VN = unit(tokens.values) @ unit(sentence_D)
        cosine_V, row_V = cosine_VN.masked_fill(~tokens.mask, -torch.inf).max(dim=1)
        return cls(row_V, cosine_V)


@dataclass(frozen=True)
class MatchedRow:
    """A row of a clip: its moment, and its string where the level's rows have strings."""

    moment: Moment
    text: str = ""

    @classmethod
    def of(cls, stored: Features, row: int, cosine: float | None) -> Self:
        moment = Moment(float(stored.start_s[row]), float(stored.end_s[row]), cosine)
        return cls(moment, stored.texts[row] if stored.texts else "")


@dataclass(frozen=True, eq=False)
class Evidence:
    """The best frame of one video, and the best row of each level that has one."""

    frame: Moment
    levels: Mapping[str, MatchedRow]

    @classmethod
    @torch.no_grad()
    def of(cls, index: SearchIndex, query: Query, ids: Sequence[str]) -> list[Self]:
        """The evidence in each of the videos `ids`, which must all have frames."""
        with repeatable(index.config) as device:
            encoded = index.query(query, device)
            parts = list(zip(encoded, index.encoded(ids, device), strict=True))
        stored = [index.store[FRAMES].features(video) for video in ids]
        best = _best_frames(parts, index)
        levels = [_matched_rows(index, ids, stored, *part) for part in parts]
        levels.append([_matched_strings(index, video, query) for video in ids])
        return [
            cls(
                MatchedRow.of(stored[v], int(best.row_V[v]), float(best.cosine_V[v])).moment,
                {name: row for part in levels for name, row in part[v].items()},
            )
            for v in range(len(ids))
        ]


def _best_frames(
    parts: Sequence[tuple[EncodedQueries, EncodedVideos]], index: SearchIndex
) -> NearestRows:
    """By the model with a level of the frames alone, else by the first model."""
    alone = {name for name, level in index.config.active_levels.items() if level.stream == FRAMES}
    query, videos = next((p for p in parts if alone & set(p[1].levels)), parts[0])
    return NearestRows.of(_sentence(query.shared), videos.frames)


def _matched_rows(
    index: SearchIndex,
    ids: Sequence[str],
    frames: Sequence[Features],
    query: EncodedQueries,
    videos: EncodedVideos,
) -> list[dict[str, MatchedRow]]:
    """The best rows of the levels of one model, by video."""
    by_frame = NearestRows.of(_sentence(query.shared), videos.frames)
    found: list[dict[str, MatchedRow]] = [{} for _ in ids]
    for name, level in videos.levels.items():
        sentence_D = _sentence(query.of_level(name))
        nearest = _of_level(sentence_D, level, by_frame, videos.frames.mask.shape[1])
        role = index.config.active_levels[name].stream
        for v, video in enumerate(ids):
            if level.valid[v]:
                stored = frames[v] if level.fused is not None else index.store[role].features(video)
                row = MatchedRow.of(stored, int(nearest.row_V[v]), float(nearest.cosine_V[v]))
                found[v][name] = row
    return found


def _sentence(query: Tokens) -> Tensor:
    """(D,) of a single query."""
    return query.values[0, 0]


def _matched_strings(index: SearchIndex, video: str, query: Query) -> dict[str, MatchedRow]:
    """The best string of each level of words in which one has a word of the query."""
    found: dict[str, MatchedRow] = {}
    for name, statistics in index.model.words.items():
        role = index.config.word_levels[name].stream
        if not index.store[role].holds([video])[0]:
            continue
        stored = index.store[role].features(video)
        lines = [words_of(text) for text in stored.texts or ()]
        scores = WordIndex(statistics, lines).scores_of(words_of(sentence_of(query)))
        if scores.any():
            found[name] = MatchedRow.of(stored, int(scores.argmax()), cosine=None)
    return found


def _of_level(
    sentence_D: Tensor, level: LevelTokens, by_frame: NearestRows, frames: int
) -> NearestRows:
    """Nearest rows of a level. A fused level has the rows of the frames once or twice; for videos
    without fusion it falls back to the frames."""
    nearest = NearestRows.of(sentence_D, level.tokens)
    if level.fused is None:
        return nearest
    row_V = torch.where(level.fused, nearest.row_V % frames, by_frame.row_V)
    return NearestRows(row_V, torch.where(level.fused, nearest.cosine_V, by_frame.cosine_V))
