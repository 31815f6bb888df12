"""A level with a query role of its own: captions and a stream of another encoder, in a space of
another width than that of frames and captions."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.errors import MismatchError, UsageError
from m2hf.features import Features, unit_rows
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.distributed import SINGLE_PROCESS
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.evaluation.score import Target, fuse_levels
from m2hf.fuse.features.gallery import Gallery
from m2hf.fuse.features.splits import usable_captions
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import CAPTIONS
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.retriever import build_model
from m2hf.fuse.model.tokens import caption_tokens, video_tokens
from m2hf.fuse.report.source import ReportSource
from m2hf.fuse.scores.baselines import baselines
from m2hf.fuse.scores.late_rules import LATE_RULES, Calibration
from m2hf.fuse.scores.metrics import text_to_video
from m2hf.fuse.scores.pooled import PooledSplit
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.search.index import SearchIndex
from m2hf.fuse.search.searcher import Searcher
from m2hf.fuse.tables.formats import render
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.fuse.tables.trace import Trace
from m2hf.fuse.training.batch import ScoredBatch
from m2hf.fuse.training.run import train
from m2hf.fuse.training.start import start_at_ridge
from m2hf.fuse.training.trainer import TrainingData
from m2hf.manifest import Manifest, captions_of

CPU = torch.device("cpu")
SENTENCES, LINES, WIDTH = "sentences", "lines", 7
UNTOLD, UNLEARNED = "test003#0", "train004#1"  # captions without a sentence vector
STREAMS = {SENTENCES: "caption_sentence", LINES: "lines"}
LEVELS = {
    LINES: {"stream": LINES, "query": SENTENCES},
    "spoken": {"stream": LINES, "query": SENTENCES, "fusion": "words", "enabled": True},
}
UNFUSED = {
    f"{stream}_visual": {"stream": stream, "enabled": False} for stream in ("audio", "motion")
}
SILENT = {**LEVELS["spoken"], "enabled": False}


@pytest.fixture(scope="module")
def told(
    new_corpus: Callable[[Path], Any],
    write_stream: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """The synthetic set with sentence vectors of captions, and with lines in their space."""
    corpus = new_corpus(tmp_path_factory.mktemp("told"))
    rng = np.random.default_rng(5)
    sentences, lines = {}, {}
    for number, row in enumerate(corpus.manifest.rows):
        latent = rng.normal(size=WIDTH)
        for caption in captions_of([row]):
            sentences[caption.id] = _rows(rng, latent, 1 + number % 3, f"{row.id} speaks")
        if number % 3:
            lines[row.id] = _rows(rng, latent, 1 + number % 4, f"a line of {row.id}")
        else:
            lines[row.id] = Features.empty("nothing said", WIDTH)
    sentences[UNTOLD] = Features.empty("no words", WIDTH)
    del sentences[UNLEARNED]
    write_captions(write_stream, corpus.store, sentences)
    write_stream(corpus.store, LINES, lines, WIDTH)
    return corpus


def write_captions(write: Any, store: Path, items: dict[str, Features], width: int = WIDTH) -> None:
    write(store, STREAMS[SENTENCES], items, width, config={"extractor": "caption"})


def _rows(rng: np.random.Generator, latent: Any, count: int, text: str) -> Features:
    values = latent + 0.4 * rng.normal(size=(count, WIDTH))
    seconds = np.arange(count, dtype=np.float64)
    texts = (text, *[""] * (count - 1))
    return Features(
        unit_rows(values).astype(np.float32), seconds, seconds + 1, texts, np.ones(count)
    )


def asking(config: FusionConfig, **changes: Any) -> FusionConfig:
    given = config.model_dump()
    levels = {**given["levels"], **LEVELS, **changes.pop("levels", {})}
    streams = {**given["streams"], **STREAMS, **changes.pop("streams", {})}
    return FusionConfig.model_validate(
        {**given, "levels": levels, "streams": streams, **changes},
    )


def opened(corpus: Any, config: FusionConfig) -> FeatureStore:
    return FeatureStore.open(corpus.store, "synthetic", config)


def untrained(store: FeatureStore, config: FusionConfig) -> Any:
    torch.manual_seed(0)
    return build_model(config, {role: info.width for role, info in store.info.items()}).eval()


def cosines(store: FeatureStore, query: str, stream: str, gallery: Gallery) -> Any:
    """Of sentences and mean rows, with a loop."""
    found = np.zeros((len(gallery.query_ids), len(gallery.video_ids)))
    for q, caption in enumerate(gallery.query_ids):
        for v, video in enumerate(gallery.video_ids):
            if store[query].present([caption])[0] and store[stream].present([video])[0]:
                sentence = store[query].features(caption).values[0].astype(np.float64)
                rows = store[stream].features(video).values.astype(np.float64).mean(axis=0)
                found[q, v] = sentence @ rows / np.linalg.norm(sentence) / np.linalg.norm(rows)
    return found


RUNS = {
    "end_to_end": {},
    "ensemble": {"strategy": "ensemble", "scoring": "wti", "late": {"rule": "affine"}},
}


@pytest.fixture(scope="module", params=RUNS)
def finished(
    told: Any,
    short: FusionConfig,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    config = asking(short, eval={"bank": 20}, **RUNS[request.param])
    train(told.manifest, told.store, folder, config, with_baselines=True)
    evaluate(told.manifest, told.store, folder, with_baselines=True)
    return folder


@pytest.fixture(scope="module")
def file(finished: Path) -> SimilarityFile:
    return SimilarityFile.read(finished / "similarity.h5")


@pytest.mark.parametrize("strategy", ["end_to_end", "ensemble"])
@pytest.mark.parametrize("own", [False, True])
@torch.no_grad()
def test_every_level_starts_zero_shot_in_its_own_space(
    told: Any, short: FusionConfig, strategy: str, own: bool
) -> None:
    changes = {"strategy": strategy, "model": {"width": 16, "heads": 2, "own_captions": own}}
    config = asking(short, **changes)
    store = opened(told, config)
    model = untrained(store, config)
    gallery = Gallery.of(told.manifest.split("test"), store, "test")
    scores = model(
        caption_tokens(store, gallery.query_ids, 1, CPU),
        video_tokens(store, gallery.video_ids, CPU),
    )
    by_level = dict(zip(config.trained_levels, scores.levels.numpy(), strict=True))
    for name in ("visual", "text", LINES):
        level = config.levels[name]
        expected = cosines(store, level.query, level.stream, gallery)
        np.testing.assert_allclose(by_level[name], expected, rtol=0, atol=1e-6)


def test_no_weights_are_made_that_nothing_reads(told: Any, short: FusionConfig) -> None:
    config = asking(short)
    names = list(untrained(opened(told, config), config).state_dict())
    assert [n for n in names if n.startswith(f"levels.captions.{LINES}.")]
    assert not [n for n in names if n.startswith(f"adapters.{SENTENCES}.")]
    shared = asking(short, model={"width": 16, "heads": 2, "own_captions": False})
    names = list(untrained(opened(told, shared), shared).state_dict())
    assert [n for n in names if n.startswith(f"adapters.{SENTENCES}.")]


@pytest.mark.parametrize("scoring", ["mean", "wti"])
def test_every_part_of_a_space_learns(told: Any, short: FusionConfig, scoring: str) -> None:
    """Own captions, the adapter of the stream and, token-wise, the weights of words and rows."""
    config = asking(short, scoring=scoring)
    store = opened(told, config)
    model = untrained(store, config)
    captions = usable_captions(told.manifest.split("train"), store)
    assert UNLEARNED not in {caption.id for caption in captions}
    scored = ScoredBatch.of(model, store, captions[:20], SINGLE_PROCESS)
    torch.autograd.backward(scored.scores.levels.square().sum())
    parts = [f"levels.captions.{LINES}.", f"adapters.{LINES}."]
    if scoring == "wti":
        parts += [f"other_scorers.{SENTENCES}.{side}_weight." for side in ("word", "row")]
    for part in parts:
        weights = [x for n, x in model.named_parameters() if n.startswith(part)]
        assert any(x.grad is not None and x.grad.abs().max() > 1e-6 for x in weights), part


@pytest.mark.parametrize("project", [(LINES,), (SENTENCES, LINES)])
def test_a_projected_space_starts_at_its_ridge(
    told: Any, short: FusionConfig, project: tuple[str, ...]
) -> None:
    config = asking(short, project=project)
    store = opened(told, config)
    trainer = TrainingData(
        store,
        usable_captions(told.manifest.split("train"), store),
        Gallery.of(told.manifest.split("val"), store, "val"),
    )
    model = untrained(store, config)
    model.standardise(trainer.statistics)
    start_at_ridge(model, trainer.regressions)
    gallery = Gallery.of(told.manifest.split("test"), store, "test")
    with torch.no_grad():
        scores = model(
            caption_tokens(store, gallery.query_ids, 1, CPU),
            video_tokens(store, gallery.video_ids, CPU),
        )
    asked = PooledSplit.of(gallery, store).asked(SENTENCES)
    fitted = trainer.regressions.asked(SENTENCES).fitted([LINES], LINES)
    queries_QD, videos_VD = fitted.ridge.embed(asked, fitted.strength)
    there = np.ix_(asked.present_Q, asked.valid_V(LINES))
    level = list(config.trained_levels).index(LINES)
    expected = queries_QD @ videos_VD.T
    np.testing.assert_allclose(scores.levels[level].numpy()[there], expected[there], atol=2e-5)


def test_captions_are_projected_to_a_stream_of_another_width(
    told: Any, short: FusionConfig, tmp_path: Path
) -> None:
    config = asking(short, project=[CAPTIONS, "frames", SENTENCES], levels=UNFUSED)
    train(told.manifest, told.store, tmp_path, config)
    found = SimilarityFile.read(evaluate(told.manifest, told.store, tmp_path))
    recall = text_to_video(found.scores[LINES], found.video_of_query).recall[5].expected
    assert recall > 2 * 100 * 5 / len(found.video_ids)


def test_a_level_scores_what_its_query_has(told: Any, file: SimilarityFile, finished: Path) -> None:
    """Without a sentence vector the others score a caption, as if there were no such level."""
    model, _ = checkpoint.load(
        finished / "checkpoint.safetensors", store := opened(told, asking(FusionConfig()))
    )
    row, names = file.query_ids.index(UNTOLD), list(file.masks)
    assert file.missing[SENTENCES] == 1
    own = [n for n in names if n in LEVELS]
    valid_LV = np.array([file.masks[name] & (name not in own) for name in names])
    levels_LQV = np.stack([file.scores[name][[row]] for name in names])
    assert (levels_LQV[[names.index(name) for name in own]] == -1).all()
    fused_V = LATE_RULES[model.late_rule](levels_LQV, valid_LV, model.late.calibration())[0]
    seen_V = valid_LV.any(axis=0)
    np.testing.assert_allclose(file.scores["late_fusion"][row][seen_V], fused_V[seen_V], rtol=1e-6)
    assert store.told(file.query_ids).sum() == len(file.query_ids) - 1
    notes = render(SimilarityTable().build([finished / "similarity.h5"]), ".md")
    assert f"no features of {SENTENCES}: 1 of 20 queries" in notes


def test_only_words_ask_another_role(told: Any, short: FusionConfig, tmp_path: Path) -> None:
    """Then it has no space, and its strings are the query."""
    silent = {**LEVELS[LINES], "enabled": False}
    config = asking(short, levels={LINES: silent, **UNFUSED})
    assert config.query_roles == (CAPTIONS, SENTENCES)
    assert SENTENCES not in config.spaces
    train(told.manifest, told.store, tmp_path, config)
    found = SimilarityFile.read(evaluate(told.manifest, told.store, tmp_path))
    query, video = (found.query_ids.index("test007#0"), found.video_ids.index("test007"))
    assert found.scores["spoken"][query].argmax() == video  # whose line has its id
    assert (found.scores["spoken"][found.query_ids.index(UNTOLD)] == -1).all()


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    rule=st.sampled_from(sorted(LATE_RULES)),
    queries=st.integers(1, 6),
    videos=st.integers(1, 5),
)
def test_a_query_is_fused_as_if_it_were_alone(
    seed: int, rule: str, queries: int, videos: int
) -> None:
    """Whatever roles it and the others have features in."""
    rng = np.random.default_rng(seed)
    roles = ("captions", "sentences", "captions")
    present = {role: rng.random(queries) < 0.6 for role in roles}
    valid_LV = rng.random((3, videos)) < 0.7
    levels_LQV = rng.normal(size=(3, queries, videos)).astype(np.float32)
    by = Calibration.of(levels_LQV, valid_LV)
    levels = {str(n): SimpleNamespace(query=role) for n, role in enumerate(roles)}
    model = SimpleNamespace(late_rule=rule, config=SimpleNamespace(active_levels=levels))
    store = _Streams({role: _Stored(present_Q) for role, present_Q in present.items()})
    fused_QV = np.empty((queries, videos), np.float32)
    target = Target([str(q) for q in range(queries)], list(levels_LQV), fused_QV)
    fuse_levels(model, store, target, valid_LV, by)  # type: ignore[arg-type]
    known_QV = np.zeros((queries, videos), np.bool_)
    for q in range(queries):
        own_LV = valid_LV & np.array([present[role][q] for role in roles])[:, None]
        known_QV[q] = own_LV.any(axis=0)
        if known_QV[q].any():
            alone_V = LATE_RULES[rule](levels_LQV[:, [q]], own_LV, by)[0].astype(np.float32)
            np.testing.assert_allclose(
                fused_QV[q][known_QV[q]], alone_V[known_QV[q]], rtol=1e-5, atol=1e-6
            )
    if known_QV.any() and not known_QV.all():
        assert (fused_QV[~known_QV] == fused_QV[known_QV].min() - np.float32(1)).all()


@dataclass(frozen=True)
class _Stored:
    """A stream of captions, of which some have features."""

    present_Q: Any

    def present(self, ids: Sequence[str]) -> Any:
        return self.present_Q


class _Streams(dict[str, Any]):
    """The part of a feature store that fusing reads."""

    @property
    def query_roles(self) -> tuple[str, ...]:
        return tuple(self)


def test_baselines_ask_what_their_level_asks(told: Any, file: SimilarityFile) -> None:
    config = FusionConfig.model_validate(file.config)
    store = opened(told, config)
    gallery = Gallery.of(told.manifest.split("test"), store, "test")
    found = file.baselines[f"zero_shot_{LINES}"]
    there = np.ix_(store[SENTENCES].present(gallery.query_ids), found.valid_V)
    expected = cosines(store, SENTENCES, LINES, gallery)
    np.testing.assert_allclose(found.scores_QV[there], expected[there], rtol=0, atol=1e-6)
    assert (found.valid_V == file.masks[LINES]).all()
    assert (found.scores_QV[file.query_ids.index(UNTOLD)] == -1).all()
    again = dict(baselines(told.manifest, store, config))
    assert list(again) == list(file.baselines)
    assert again[f"ridge_{LINES}"].val_recall == file.baselines[f"ridge_{LINES}"].val_recall


def test_the_chain_of_a_level_names_its_own_captions(
    told: Any, finished: Path, file: SimilarityFile, tmp_path: Path
) -> None:
    path = tmp_path / "table.md"
    path.write_text(render(SimilarityTable().build([finished / "similarity.h5"]), ".md"))
    recorded = file.streams[SENTENCES]
    assert recorded["stream"].startswith("caption_sentence@")
    assert file.query_roles == (CAPTIONS, SENTENCES)
    for row in (LINES, f"zero_shot_{LINES}", f"ridge_{LINES}"):
        said = "\n".join(Trace.of(path, row).lines([{}]))
        assert recorded["digest"] in said
        assert f"stream {LINES}:" in said
        assert "stream captions:" not in said
    assert "sentences" not in "\n".join(
        line for line in Trace.of(path, "text").lines([{}]) if "stream " in line
    )
    assert not Trace.of(path, LINES).compare([finished], None).differences
    told.manifest.save(tmp_path / "manifest")
    ReportSource.open(Manifest.load(tmp_path / "manifest"), told.store, finished, None)


def test_search_gives_a_caption_its_scores(told: Any, finished: Path, file: SimilarityFile) -> None:
    index = SearchIndex.open(told.manifest, told.store, finished, split="test")
    encoders = {role: index.store[role].features for role in index.store.query_roles}
    row = file.query_ids.index("test007#0")
    for hit in Searcher(index, encoders).search("test007#0", 20).hits:
        video = file.video_ids.index(hit.row.id)
        for name, level in hit.levels.items():
            assert (level is not None) == file.masks[name][video]
            if level is not None:
                assert level.score == pytest.approx(file.scores[name][row, video], abs=2e-5)
        assert hit.score == pytest.approx(file.scores["late_fusion"][row, video], abs=1e-4)
        if hit.levels[LINES] is not None:
            stored = index.store[LINES].features(hit.row.id)
            assert hit.levels[LINES].moment.start_s in stored.start_s
            assert hit.levels[LINES].text in (stored.texts or ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": {LINES: "motion"}}, f"{LINES} are motion@.* and {SENTENCES} are caption_sent"),
        ({"streams": {SENTENCES: "lines"}}, "items are videos, not captions; set fuse.streams.sen"),
        ({"streams": {LINES: "caption"}}, "items are captions, not videos; set fuse.streams.lines"),
        ({"streams": {SENTENCES: "clap"}}, "disable this level: --set fuse.levels.lines.enabled"),
    ],
)
def test_streams_that_do_not_fit_are_refused_in_one_line(
    told: Any, short: FusionConfig, changes: dict[str, Any], message: str
) -> None:
    config = asking(short, **changes)
    with pytest.raises((UsageError, MismatchError), match=message) as caught:
        opened(told, config)
    assert "\n" not in str(caught.value)
    if LINES in changes["streams"] and "motion" in changes["streams"].values():
        assert 'fuse.project=["lines"]' in str(caught.value)
        opened(told, asking(short, **changes, project=[LINES], levels={"spoken": SILENT}))


def test_a_split_without_sentence_vectors_is_refused_in_one_line(
    told: Any, short: FusionConfig, write_stream: Any, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    shutil.copytree(told.store, root)
    shutil.rmtree(next((root / "synthetic").glob("caption_sentence@*")))
    store = opened(told, asking(short))
    held = [c.id for row in told.manifest.split("train") for c in captions_of([row])]
    there = [item for item in held if store[SENTENCES].holds([item])[0]]
    write_captions(write_stream, root, {item: store[SENTENCES].features(item) for item in there})
    with pytest.raises(UsageError, match=r"no features in stream caption_s.*; extract `capt"):
        train(told.manifest, root, tmp_path / "run", asking(short))
