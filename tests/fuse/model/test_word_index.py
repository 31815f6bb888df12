"""BM25 of blocks of videos, against a loop over videos and words; and what it may not be given."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.errors import ShardError, UsageError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model.word_index import WordBlock, WordIndex, fitted
from m2hf.fuse.model.words import WordStatistics

DOCUMENTS = st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), max_size=8)
QUERY = st.lists(st.sampled_from("abcdefxyz"), max_size=6)


def oracle(training: list[list[str]], document: list[str], query: list[str]) -> float:
    """BM25 as its definition says, with k1 = 1.5 and b = 0.75."""
    lengths = [len(other) for other in training]
    mean = sum(lengths) / len(lengths) if sum(lengths) else 1.0
    score = 0.0
    for word in query:
        holds = sum(word in other for other in training)
        rarity = math.log(1 + (len(training) - holds + 0.5) / (holds + 0.5))
        n = document.count(word)
        score += rarity * n / (n + 1.5 * (1 - 0.75 + 0.75 * len(document) / mean))
    return score


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(DOCUMENTS, DOCUMENTS, QUERY, st.integers(0, 8))
def test_scores_are_those_of_the_definition_and_of_any_blocks(
    training: list[list[str]], gallery: list[list[str]], query: list[str], cut: int
) -> None:
    known = WordStatistics.of(training)
    whole = WordIndex(known, gallery).scores_of(query)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, [oracle(training, d, query) for d in gallery], rtol=1e-5)
    parts = [WordIndex(known, part).scores_of(query) for part in (gallery[:cut], gallery[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_query_without_a_known_word_scores_zero() -> None:
    known = WordStatistics.of([["open"], ["taxi"]])
    for gallery in ([["open"], ["taxi"]], [[], []], []):
        for query in (["zanzibar"], []):
            np.testing.assert_array_equal(
                WordIndex(known, gallery).scores_of(query), np.zeros(len(gallery))
            )


ON = FusionConfig(levels={"words": {"enabled": True}})
LINES = {"train000": ("OPEN now", "a taxi"), "train001": ("Open",), "train002": ()}


@pytest.fixture
def store(write_stream: Callable[..., None], tmp_path: Path) -> FeatureStore:
    """Three videos; the first two have strings, the second has no frames."""
    return opened(write_stream, tmp_path, ON)


def opened(
    write_stream: Callable[..., None], root: Path, config: FusionConfig, **changed: Any
) -> FeatureStore:
    plain = {video: rows(2) for video in LINES}
    streams = {
        "clip": {**plain, "train001": Features.empty("no video", 4)},
        "caption": {"train000#0": rows(2, ("a taxi is OPEN", ""))},
        "audio": plain,
        "motion": plain,
        "text": {video: rows(len(lines), lines) for video, lines in LINES.items()},
    }
    from m2hf.layout import StoreLayout

    StoreLayout(root, "synthetic").record(4)
    for name, items in {**streams, **changed}.items():
        write_stream(root, name, items, 4)
    return FeatureStore.open(root, "synthetic", config)


def rows(count: int, texts: tuple[str, ...] | None = None) -> Features:
    if not count:
        return Features.empty("none", 4, texts=True)
    times = np.arange(count, dtype=np.float64)
    confidence = None if texts is None else np.ones(count, np.float32)
    values = np.ones((count, 4), np.float32)
    return Features(values, times, times + 1, texts, confidence)


def test_a_block_reads_strings_and_masks_videos_without_them(store: FeatureStore) -> None:
    ids = [*LINES, "unknown"]
    known = fitted(ON, store, ids)
    assert known == {
        "words": WordStatistics(
            documents=2, words=5, frequency={"a": 1, "now": 1, "open": 2, "taxi": 1}
        )
    }
    block = WordBlock.of(known, ON, store, ids)
    assert block.valid_LV.tolist() == [[True, False, False, False]]
    (scores_QV,) = block.scores(["a taxi is OPEN", "zanzibar"])
    documents = [["open", "now", "a", "taxi"], ["open"]]
    expected = [oracle(documents, d, ["a", "taxi", "is", "open"]) for d in (*documents, [], [])]
    np.testing.assert_allclose(scores_QV, [expected, [0] * 4], rtol=1e-6)
    assert block.nbytes > 0


def test_two_streams_of_words_and_none(store: FeatureStore) -> None:
    said = {"stream": "text", "fusion": "words"}
    both = FusionConfig(levels={"said": said, "words": {"enabled": True}})
    assert list(both.active_levels)[-2:] == ["words", "said"]
    ids = list(LINES)
    block = WordBlock.of(fitted(both, store, ids), both, store, ids)
    assert block.scores(["open"]).shape == (2, 1, 3)
    none = WordBlock.of({}, FusionConfig(), store, ids)
    assert none.valid_LV.shape == (0, 3)
    assert none.scores(["open"]).shape == (0, 1, 3)


def test_a_stream_without_strings_is_one_clear_line(
    write_stream: Callable[..., None], tmp_path: Path
) -> None:
    audio = FusionConfig(levels={"words": {"enabled": True, "stream": "audio"}})
    with pytest.raises(
        UsageError,
        match=r"level words compares words, and audio, which are audio@\w+ of width 4, have no "
        r"strings; read another stream, or disable .*fuse\.levels\.words\.enabled=false",
    ):
        opened(write_stream, tmp_path / "a", audio)
    silent = {"caption": {"train000#0": rows(2)}}
    with pytest.raises(UsageError, match=r"captions, which are .*; import them with texts, or"):
        opened(write_stream, tmp_path / "b", ON, **silent)


def test_a_string_that_is_not_utf8_is_one_clear_line(store: FeatureStore) -> None:
    stream = store["text"]
    for number, shard in enumerate(stream._shards):
        if "train000" in shard.ids:
            damaged = np.full_like(shard.text, 0xFF)
            stream._shards = [*stream._shards]
            stream._shards[number] = replace(shard, text=damaged)
    with pytest.raises(ShardError, match="item 'train000' holds a string that is not UTF-8"):
        fitted(ON, store, ["train000"])
