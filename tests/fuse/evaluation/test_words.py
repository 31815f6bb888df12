"""A level of words from training to the similarity file, and in search.

Every video with text says its own name, and its captions ask for it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from m2hf.errors import UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation import blocks as blocks_module
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.splits import usable_captions
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.features.stream import Stream
from m2hf.fuse.level_table import CAPTIONS
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.word_index import WordIndex, documents, fitted
from m2hf.fuse.model.words import words_of
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.search.index import SearchIndex
from m2hf.fuse.search.searcher import Searcher
from m2hf.fuse.tables.trace import streams_read
from m2hf.fuse.training.run import TrainSummary, train
from m2hf.layout import StoreLayout

STRATEGIES = ("end_to_end", "ensemble")


@dataclass(frozen=True)
class Trained:
    """A run with the level of words, and the same without it."""

    folder: Path
    summary: TrainSummary
    without: Path


@pytest.fixture(scope="module")
def named(
    new_corpus: Callable[[Path], Any],
    write_stream: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """The synthetic set, whose text and captions have strings."""
    corpus = new_corpus(tmp_path_factory.mktemp("named"))
    layout = StoreLayout(corpus.store, "synthetic")
    text, caption = (Stream.open(layout, name) for name in ("text", "caption"))
    lines, asked, rows = {}, {}, []
    for row in corpus.manifest.rows:
        stored = text.features(row.id)
        names = (f"This is {row.id.upper()}.", "this, again")[: len(stored.values)]
        ones = np.ones(len(names), np.float32)
        lines[row.id] = replace(stored, texts=names, confidence=ones)
        wanted = f"somebody says {row.id}" if names else "nobody speaks"
        rows.append(row.model_copy(update={"captions": (wanted,) * len(row.captions)}))
        for number in range(len(row.captions)):
            values = caption.features(f"{row.id}#{number}")
            texts = (wanted, *[""] * (len(values.values) - 1))
            confidence = np.ones(len(texts), np.float32)
            asked[f"{row.id}#{number}"] = replace(values, texts=texts, confidence=confidence)
    write_stream(corpus.store, "text", lines, text.info.width)
    write_stream(corpus.store, "caption", asked, caption.info.width)
    return replace(corpus, manifest=replace(corpus.manifest, rows=tuple(rows)))


def with_words(config: FusionConfig, strategy: str, enabled: bool = True) -> FusionConfig:
    told = config.model_dump(mode="json")
    told["levels"]["words"]["enabled"] = enabled
    return FusionConfig.model_validate({**told, "strategy": strategy})


@pytest.fixture(scope="module", params=STRATEGIES)
def run(
    request: pytest.FixtureRequest,
    named: Any,
    short: FusionConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    folders = [tmp_path_factory.mktemp(request.param) for _ in range(2)]
    _, summary = (
        train(named.manifest, named.store, folder, with_words(short, request.param, enabled))
        for folder, enabled in zip(reversed(folders), (False, True), strict=True)
    )
    return Trained(folders[0], summary, folders[1])


def test_networks_are_trained_as_without_it(run: Trained) -> None:
    with_it, without = (
        load_file(RunFolder(folder).checkpoint) for folder in (run.folder, run.without)
    )
    assert with_it.keys() == without.keys()
    for name, weights in with_it.items():
        if not name.startswith("late_fusions."):
            assert torch.equal(weights, without[name]), name
    assert list(run.summary.val_recall)[-2:] == ["words", "late_fusion"]
    assert "words" not in run.summary.stages


def test_the_checkpoint_holds_the_statistics_of_training(named: Any, run: Trained) -> None:
    path = RunFolder(run.folder).checkpoint
    header = checkpoint.read_header(path)
    store = FeatureStore.open(named.store, "synthetic", header.config)
    captions = usable_captions(named.manifest.split("train"), store)
    videos = list(dict.fromkeys(caption.video for caption in captions))
    assert header.words == fitted(header.config, store, videos)
    assert 0 < header.words["words"].documents < len(videos)
    assert header.words["words"].frequency["this"] == header.words["words"].documents
    model, _ = checkpoint.load(path, store)
    assert model.words == header.words
    again = run.folder / "again.safetensors"
    checkpoint.save(again, model, header)
    assert again.read_bytes() == path.read_bytes()


def test_a_checkpoint_without_them_is_refused(named: Any, run: Trained, tmp_path: Path) -> None:
    header = checkpoint.read_header(RunFolder(run.folder).checkpoint)
    store = FeatureStore.open(named.store, "synthetic", header.config)
    model, _ = checkpoint.load(RunFolder(run.folder).checkpoint, store)
    checkpoint.save(tmp_path / "x", model, replace(header, words={}))
    with pytest.raises(UsageError, match="statistics of words for no level, expected"):
        checkpoint.read_header(tmp_path / "x")


def test_scores_are_bm25_and_masked_where_nothing_was_said(
    named: Any, run: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = SimilarityFile.read(evaluate(named.manifest, named.store, run.folder))
    header = checkpoint.read_header(RunFolder(run.folder).checkpoint)
    store = FeatureStore.open(named.store, "synthetic", header.config)
    said = store["text"].present(file.video_ids) & store["frames"].present(file.video_ids)
    assert 0 < said.sum() < len(said)
    np.testing.assert_array_equal(file.masks["words"], said)
    index = WordIndex(header.words["words"], documents(store, "text", file.video_ids))
    for query, scores in zip(file.query_ids, np.array(file.scores["words"]), strict=True):
        own = index.scores_of(words_of(store[CAPTIONS].strings(query)[0]))
        np.testing.assert_array_equal(scores, np.where(said, own, np.float32(-1)))
        video = file.video_ids.index(query.partition("#")[0])
        if said[video]:
            assert scores[video] > np.delete(scores, video).max()
    # The same bits in blocks of three videos.
    for name, value in (("_QUERIES", 7), ("_VIDEOS", 3)):
        monkeypatch.setattr(blocks_module, name, value)
    RunFolder(tmp_path).checkpoint.write_bytes(RunFolder(run.folder).checkpoint.read_bytes())
    other = SimilarityFile.read(evaluate(named.manifest, named.store, tmp_path))
    np.testing.assert_array_equal(other.scores["words"], file.scores["words"])


def test_search_gives_the_scores_of_eval_and_shows_the_string(named: Any, run: Trained) -> None:
    file = SimilarityFile.read(evaluate(named.manifest, named.store, run.folder))
    index = SearchIndex.open(named.manifest, named.store, run.folder, split="test")
    searcher = Searcher(index, {CAPTIONS: index.store[CAPTIONS].features})
    shown = 0
    for number, query in enumerate(file.query_ids):
        for hit in searcher.search(query, top=100).hits:
            column = file.video_ids.index(hit.row.id)
            assert hit.score == pytest.approx(file.scores["late_fusion"][number, column], abs=2e-4)
            match = hit.levels["words"]
            assert (match is not None) == file.masks["words"][column]
            if match is None:
                continue
            assert match.score == file.scores["words"][number, column]
            assert (match.moment is not None) == (match.score > 0)
            if match.moment is not None:
                assert match.text == f"This is {hit.row.id.upper()}."
                assert match.text in [line.text for line in hit.lines]
                assert "cosine" not in match.as_json()
                stored = index.store["text"].features(hit.row.id)
                assert match.moment.start_s == stored.start_s[0]
                shown += 1
    assert shown == file.masks["words"].sum()


def test_a_gallery_that_does_not_fit_is_scored_alike(named: Any, run: Trained) -> None:
    index = SearchIndex.open(named.manifest, named.store, run.folder)
    features = {CAPTIONS: index.store[CAPTIONS].features("test001#0")}
    kept = index.scores(features)
    held = sum(block.nbytes for block in index._blocks.values())
    words = sum(block.words.nbytes for block in index._blocks.values())
    assert held > words > 0
    index._blocks.clear()
    object.__setattr__(index._space, "free_bytes", 0)
    np.testing.assert_array_equal(index.scores(features).levels_LV, kept.levels_LV)


def test_a_table_says_what_it_read(run: Trained) -> None:
    config = checkpoint.read_header(RunFolder(run.folder).checkpoint).config
    assert streams_read(config.model_dump(mode="json"), "words") == {"captions", "text"}


def test_no_other_level_is_an_error() -> None:
    told = {name: {"enabled": name == "words"} for name in FusionConfig().levels}
    with pytest.raises(ValueError, match="every level but those of words is disabled; enable"):
        FusionConfig.model_validate({"levels": told})
