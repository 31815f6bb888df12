"""Scores of the levels of words: an inverted index (bm25s) of the strings of a block of videos.

L levels, Q queries, V videos.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import bm25s
import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import BoolArray
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import FRAMES
from m2hf.fuse.model.words import WordStatistics, words_of

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for a line for each index


class WordIndex(bm25s.BM25):  # type: ignore[misc]
    """Documents by word, weighted by given statistics: bm25s itself would compute them from the
    indexed documents, and a score would depend on the other videos of the block."""

    def __init__(self, statistics: WordStatistics, documents: Iterable[Sequence[str]]) -> None:
        """documents: the words of each."""
        super().__init__(dtype="float32")
        self.nonoccurrence_array = None
        self._statistics = statistics
        self.index(documents, create_empty_token=False, show_progress=False)

    def build_index_from_tokens(
        self, corpus_tokens: Iterable[Sequence[str]], **_: Any
    ) -> tuple[dict[str, Any], dict[str, int]]:
        """Called by `index`; returns a sparse matrix by columns, which are words, and their ids."""
        columns: dict[str, list[tuple[int, float]]] = {}
        count = 0
        for document in corpus_tokens:
            for word, weight in self._statistics.weights(document).items():
                columns.setdefault(word, []).append((count, weight))
            count += 1
        cells = [cell for column in columns.values() for cell in column]
        matrix = {
            "data": np.array([weight for _, weight in cells], dtype=np.float32),
            "indices": np.array([number for number, _ in cells], dtype=np.int32),
            "indptr": np.cumsum([0, *map(len, columns.values())], dtype=np.int64),
            "num_docs": count,
        }
        return matrix, {word: column for column, word in enumerate(columns)}

    def scores_of(self, query: Sequence[str]) -> NDArray[np.float32]:
        """(V,) BM25 of the words of a query, at least 0; 0 where a document has none of them."""
        known = self.get_tokens_ids(query)
        if not known:
            return np.zeros(self.scores["num_docs"], dtype=np.float32)
        scores_V: NDArray[np.float32] = self.get_scores_from_ids(known)
        return scores_V

    @property
    def nbytes(self) -> int:
        """Of its arrays and, roughly, its vocabulary."""
        arrays = sum(self.scores[name].nbytes for name in ("data", "indices", "indptr"))
        return int(arrays) + _BYTES_A_WORD * len(self.vocab_dict)


_BYTES_A_WORD = 150  # an entry of a dict, its key and its number


@dataclass(frozen=True, eq=False)
class WordBlock:
    """The levels of words of V videos. indexes: one a level; valid_LV: which videos have frames,
    as every level demands, and strings."""

    indexes: tuple[WordIndex, ...]
    valid_LV: BoolArray

    @classmethod
    def of(
        cls, statistics: Mapping[str, WordStatistics], config: FusionConfig, store: FeatureStore,
        ids: Sequence[str],
    ) -> Self:  # fmt: skip
        """statistics: by level, in the order of the config."""
        roles = [config.word_levels[name].stream for name in statistics]
        valid = [store[FRAMES].present(ids) & store[role].present(ids) for role in roles]
        return cls(
            tuple(
                WordIndex(known, documents(store, role, ids))
                for known, role in zip(statistics.values(), roles, strict=True)
            ),
            np.array(valid, dtype=np.bool_).reshape(len(roles), len(ids)),
        )

    def scores(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """(L, Q, V) of queries by their text."""
        scores_LQV = np.empty((len(self.indexes), len(queries), self.valid_LV.shape[1]), np.float32)
        for number, text in enumerate(queries if self.indexes else ()):
            words = words_of(text)
            for level, index in enumerate(self.indexes):
                scores_LQV[level, number] = index.scores_of(words)
        return scores_LQV

    @property
    def nbytes(self) -> int:
        """Of its indexes."""
        return sum(index.nbytes for index in self.indexes)


def documents(store: FeatureStore, role: str, ids: Sequence[str]) -> Iterator[list[str]]:
    """The words of all strings of each video."""
    for video in ids:
        yield [word for text in store[role].strings(video) for word in words_of(text)]


def texts_of(config: FusionConfig, store: FeatureStore, ids: Sequence[str]) -> list[str]:
    """The texts of captions, which the queries of all levels of words hold; "" for one that none of
    them has features of."""
    roles = dict.fromkeys(level.query for level in config.word_levels.values())
    found = ((store[role].strings(caption) for role in roles) for caption in ids)
    return [next((texts[0] for texts in stored if texts), "") for stored in found]


def fitted(
    config: FusionConfig, store: FeatureStore, videos: Sequence[str]
) -> dict[str, WordStatistics]:
    """Statistics of each level of words, by name: of the strings of those `videos` that have
    some, which are those that a run trains on."""
    known = {}
    for name, level in config.word_levels.items():
        there = store[level.stream].present(videos)
        with_strings = [video for video, has in zip(videos, there, strict=True) if has]
        known[name] = WordStatistics.of(documents(store, level.stream, with_strings))
    return known
