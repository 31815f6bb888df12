"""Search: scores as in `m2hf eval`, and evidence equal to that of a plain loop."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m2hf.errors import MismatchError, UsageError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.stream import Stream
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.search.index import SearchIndex
from m2hf.fuse.search.origins import Origins
from m2hf.fuse.search.query import MAX_CHARACTERS, checked, script_remark, scripts
from m2hf.fuse.search.searcher import Searcher
from m2hf.fuse.training.run import train
from m2hf.keys import fingerprint
from m2hf.layout import StoreLayout

CLOSE = 2e-5  # sums of another shape
RUNS = ("end_to_end", "wti", "own_captions")


def searcher(corpus: Any, run: Path, split: Any = "test", **config: Any) -> Searcher:
    """A searcher whose queries are caption ids, encoded as in the store."""
    index = SearchIndex.open(
        corpus.manifest, corpus.store, run, FusionConfig(**config) if config else None, split
    )
    return Searcher(index, {CAPTIONS: index.store[CAPTIONS].features})


@pytest.fixture(scope="module")
def wti(corpus: Any, short: FusionConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble with token-wise scores and frames appended, trained for two epochs."""
    folder = tmp_path_factory.mktemp("wti")
    levels = {"audio_visual": {"stream": "audio", "fusion": "append"}}
    changes = {"scoring": "wti", "strategy": "ensemble", "levels": levels, "device": "cpu"}
    kept = short.model_dump(include={"model", "train"})
    train(corpus.manifest, corpus.store, folder, FusionConfig(**kept, **changes))
    return folder


@pytest.fixture(scope="module")
def runs(
    corpus: Any, short: FusionConfig, run: Any, wti: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The same for one whose levels have their own captions, and both others, by name."""
    folder = tmp_path_factory.mktemp("own")
    model = short.model.model_copy(update={"own_captions": True})
    train(corpus.manifest, corpus.store, folder, short.model_copy(update={"model": model}))
    return {"end_to_end": run.folder, "wti": wti, "own_captions": folder}


@pytest.mark.parametrize("rule", ["affine", "reciprocal_rank"])
@pytest.mark.parametrize("which", RUNS)
def test_a_caption_of_the_split_gets_its_scores_and_ranks(
    which: str, rule: str, corpus: Any, runs: dict[str, Path]
) -> None:
    folder = runs[which]
    late = FusionConfig(late={"rule": rule})
    file = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, folder, late))
    found = searcher(corpus, folder, late={"rule": rule})
    known = np.stack(list(file.masks.values())).any(axis=0)
    for number, query in enumerate(file.query_ids):
        answer = found.search(query, top=100)
        assert (answer.videos, answer.unseen, answer.rule) == (19, 1, rule)
        ids = [hit.row.id for hit in answer.hits]
        fused = dict(zip(file.video_ids, file.scores["late_fusion"][number], strict=True))
        wanted = sorted(np.array(file.video_ids)[known], key=lambda v: -fused[v])
        assert ids == wanted
        assert [hit.rank for hit in answer.hits] == list(range(1, 20))
        for hit in answer.hits:
            assert hit.score == pytest.approx(fused[hit.row.id], abs=CLOSE)
            column = file.video_ids.index(hit.row.id)
            for name, level in hit.levels.items():
                assert (level is not None) == file.masks[name][column]
                if level is not None:
                    score = file.scores[name][number, column]
                    assert level.score == pytest.approx(score, abs=CLOSE)
                    row = file.scores[name][number][file.masks[name]]
                    share = (score - row.min()) / (row.max() - row.min())
                    assert level.relative == pytest.approx(share, abs=1e-3)


def test_a_gallery_that_does_not_fit_is_scored_alike(corpus: Any, run: Any) -> None:
    whole = searcher(corpus, run.folder, split=None)
    kept = whole.search("test003#0", 10)
    assert kept.videos == 91
    whole.index._blocks.clear()
    object.__setattr__(whole.index._space, "free_bytes", 0)
    assert whole.search("test003#0", 10) == kept
    assert not whole.index._blocks


@pytest.mark.parametrize("which", RUNS)
def test_moments_are_those_that_a_loop_finds(which: str, corpus: Any, run: Any, wti: Path) -> None:
    found = searcher(corpus, run.folder if which == "end_to_end" else wti)
    index, device = found.index, torch.device("cpu")
    query = {CAPTIONS: index.store[CAPTIONS].features("test004#0")}
    for hit in found.search("test004#0", 20).hits:
        queries, found_videos = index.query(query, device), index.encoded([hit.row.id], device)
        frames = index.store[FRAMES].features(hit.row.id)
        for number, (query_tokens, videos) in enumerate(zip(queries, found_videos, strict=True)):

            def nearest(tokens: Any, query: Any) -> tuple[int, float]:
                sentence = query.values[0, 0].detach().numpy()
                cosines = [
                    float(row @ sentence / np.linalg.norm(row) / np.linalg.norm(sentence))
                    for row in tokens.values[0][tokens.mask[0]].detach().numpy()
                ]
                return int(np.argmax(cosines)), max(cosines)

            row, cosine = nearest(videos.frames, query_tokens.shared)
            if number == 0:  # the visual level is the first
                assert hit.frame.start_s == frames.start_s[row]
                assert hit.frame.end_s == frames.end_s[row]
                assert hit.frame.cosine == pytest.approx(cosine, abs=1e-5)
            for name, level in videos.levels.items():
                match = hit.levels[name]
                assert (match is not None) == bool(level.valid[0])
                if match is None:
                    continue
                own = level.fused is None or bool(level.fused[0])
                asked = query_tokens.of_level(name) if own else query_tokens.shared
                row, cosine = nearest(level.tokens, asked)
                role = "text" if name == "text" else FRAMES
                stored = index.store[role].features(hit.row.id)
                place = row % len(stored.start_s)
                assert match.moment.start_s == stored.start_s[place]
                assert match.moment.cosine == pytest.approx(cosine, abs=1e-5)


def test_what_does_not_belong_together_is_refused(
    corpus: Any, run: Any, new_corpus: Callable[..., Any], write_stream: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no checkpoint; train one"):
        searcher(corpus, tmp_path)
    with pytest.raises(UsageError, match="no store"):
        SearchIndex.open(corpus.manifest, tmp_path / "none", run.folder)
    with pytest.raises(MismatchError, match=r"trained with another fuse\.scoring"):
        searcher(corpus, run.folder, scoring="wti")
    other = new_corpus(tmp_path)
    empty = {row.id: Features.empty("none", 16) for row in other.manifest.rows}
    layout = StoreLayout(other.store, "synthetic")
    for path in (layout.folder / layout.find_stream("clip")).iterdir():
        path.unlink()
    write_stream(other.store, "clip", empty, 16)
    with pytest.raises(UsageError, match="none of the 20 videos of split test has frames"):
        searcher(other, run.folder)
    for path in (layout.folder / layout.find_stream("clip")).iterdir():
        path.unlink()
    (layout.folder / layout.find_stream("clip")).rmdir()
    write_stream(other.store, "clip", empty, 16, fingerprint=fingerprint({"another": 1}))
    with pytest.raises(MismatchError, match="stream frames: trained on clip@"):
        searcher(other, run.folder)
    wide = Features(np.ones((1, 3)), np.zeros(1), np.zeros(1))
    good = searcher(corpus, run.folder)
    with pytest.raises(MismatchError, match="the query has width 3"):
        dataclasses.replace(good, encoders={CAPTIONS: lambda _: wide}).search("a dog", 1)
    wordless = {CAPTIONS: lambda _: Features.empty("no words", 16)}
    with pytest.raises(UsageError, match="can't be encoded: no words"):
        dataclasses.replace(good, encoders=wordless).search("a", 1)


def test_a_line_was_read_or_heard(tmp_path: Path, write_stream: Any) -> None:
    def said(*lines: tuple[str, float, float]) -> dict[str, Features]:
        texts, starts, ends = zip(*lines, strict=True)
        n = len(lines)
        return {
            "v": Features(
                np.ones((n, 2)), np.array(starts), np.array(ends), texts, np.ones(n, np.float32)
            )
        }

    write_stream(tmp_path, "ocr", said(("WE ARE", 0, 2), ("OPEN", 0, 2), ("shut", 4, 6)), 2)
    write_stream(tmp_path, "asr", said(("we are open all night", 0, 5)), 2)
    reads = {name: fingerprint({"extractor": name}) for name in ("ocr", "asr")}
    write_stream(tmp_path, "text", said(("any", 0, 1)), 2, config={"reads": reads})
    layout = StoreLayout(tmp_path, "synthetic")
    origins = Origins.of(layout, Stream.open(layout, "text").header)
    assert origins.of_line("v", "WE ARE OPEN", 0, 6) == "read"
    assert origins.of_line("v", "we are open all night", 0, 5) == "heard"
    assert origins.of_line("v", "all night", 0, 5) == "heard"  # a chunk of a long line
    assert origins.of_line("v", "all night", 0, 4) == "text"
    assert origins.of_line("v", "shut", 0, 6) == "text"
    assert origins.of_line("another", "shut", 4, 6) == "text"
    plain = Origins.of(layout, Stream.open(layout, "ocr").header)
    assert plain.of_line("v", "shut", 4, 6) == "read"


def test_a_name_of_what_frames_show_was_seen(tmp_path: Path, write_stream: Any) -> None:
    row = np.ones((1, 2)), np.zeros(1), np.ones(1), ("sports car, grille",), np.ones(1, np.float32)
    write_stream(tmp_path, "concepts", {"v": Features(*row)}, 2)
    layout = StoreLayout(tmp_path, "synthetic")
    origins = Origins.of(layout, Stream.open(layout, "concepts").header)
    assert origins.of_line("v", "sports car, grille", 0, 1) == "seen"


@pytest.mark.parametrize("text", ["", "  \n", "?!", "\u200b", "\0", "...  -"])
def test_a_query_must_say_something(text: str) -> None:
    with pytest.raises(UsageError, match="the query is empty"):
        checked(text)


@given(st.text(max_size=50), st.sampled_from(["", "a", "\u72ac", "\U0001f436"]))
def test_a_query_with_a_letter_or_an_emoji_is_unchanged(text: str, letter: str) -> None:
    assert checked(f"{text}a{letter}") == f"{text}a{letter}".strip()


def test_a_query_has_a_length() -> None:
    assert checked("a" * MAX_CHARACTERS)
    with pytest.raises(
        UsageError, match=f"has {MAX_CHARACTERS + 1} characters, at most {MAX_CHARACTERS}"
    ):
        checked("a" * (MAX_CHARACTERS + 1))


def test_scripts() -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        checked("caf\udce9")
    latin = scripts(["A dog", "le caf\u00e9, 24h \U0001f436", "\uff21"])
    assert latin == {"Latin"}
    assert scripts(["\u72ac\u304c", "12 !"]) == {"Cjk", "Hiragana"}
    assert script_remark("\u0441\u043e\u0431\u0430\u043a\u0430", latin).startswith(
        "the query is in Cyrillic script and the captions are in Latin"
    )
    for fine in ("\u0441\u043e\u0431\u0430\u043a\u0430 dog", "42", "\U0001f436"):
        assert script_remark(fine, latin) == ""
    assert script_remark("dog", set()) == ""
