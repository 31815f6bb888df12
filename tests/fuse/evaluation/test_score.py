"""Scoring by blocks: equal to the whole at once, the same bits for any memory, and never more.

The oracle encodes everything in one piece and knows nothing of blocks.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.cli.app import app
from m2hf.errors import UsageError
from m2hf.fuse.config import EvalConfig, FusionConfig, LateConfig
from m2hf.fuse.evaluation import blocks as blocks_module
from m2hf.fuse.evaluation.blocks import Blocks, Workspace
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.evaluation.score import score_gallery
from m2hf.fuse.evaluation.scratch import matrices
from m2hf.fuse.features.gallery import Gallery, querybank
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.retriever import Retriever, build_model
from m2hf.fuse.model.tokens import caption_tokens, video_tokens
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.late_rules import LATE_RULES, Calibration
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.fuse.tables.transductive import Querybank
from m2hf.keys import sha256_hex

CPU = torch.device("cpu")
LOWEST = -1.0


@pytest.fixture
def odd(new_corpus: Callable[[Path], Any], tmp_path: Path) -> Any:
    """Test videos with a second caption that has no features; one video is in no level."""
    corpus = new_corpus(tmp_path / "store")
    rows = tuple(
        row.model_copy(update={"captions": ("only", "new")}) if row.id.endswith("3") else row
        for row in corpus.manifest.rows
    )
    return replace(corpus, manifest=replace(corpus.manifest, rows=rows))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few items, the last of which are ragged; late fusion of a few rows."""
    for name, value in (("_QUERIES", 7), ("_VIDEOS", 3), ("_QUERY_ROWS", 20), ("_VIDEO_ROWS", 40)):
        monkeypatch.setattr(blocks_module, name, value)
    monkeypatch.setattr("m2hf.fuse.evaluation.score.FUSED_CELLS", 4 * 20 * 6)


def made(config: FusionConfig, store: FeatureStore) -> Retriever:
    """A model whose every weight is drawn, so that no part of it is idle."""
    torch.manual_seed(0)
    model = build_model(config, {role: info.width for role, info in store.info.items()})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def whole(model: Retriever, store: FeatureStore, gallery: Gallery) -> tuple[np.ndarray, ...]:
    """Levels, validity and fused scores of everything at once."""
    model.eval()
    captions = caption_tokens(store, gallery.query_ids, None, CPU)
    scores = model(captions, video_tokens(store, gallery.video_ids, CPU))
    valid, asked = scores.valid.numpy(), captions["captions"].present.numpy()
    levels = scores.levels.numpy().copy()
    for query in range(levels.shape[1]):
        for video in range(levels.shape[2]):
            for level in range(len(levels)):
                if not (asked[query] and valid[level, video]):
                    levels[level, query, video] = LOWEST
    fused = LATE_RULES[model.late_rule](levels, valid, model.late.calibration()).astype(np.float32)
    known = asked[:, None] & valid.any(axis=0)
    fused[~known] = fused[known].min() - np.float32(1)
    return levels, valid, fused


@pytest.mark.parametrize("strategy", ["end_to_end", "ensemble"])
@pytest.mark.parametrize("scoring", ["mean", "wti"])
@pytest.mark.usefixtures("small_blocks")
def test_blocks_give_what_the_whole_gives(
    odd: Any, config: FusionConfig, scoring: str, strategy: str
) -> None:
    config = config.model_copy(update={"scoring": scoring, "strategy": strategy})
    store = FeatureStore.open(odd.store, "synthetic", config)
    gallery = Gallery.of(odd.manifest.split("test"), store, "test")
    model = made(config, store)
    assert not store["captions"].present(gallery.query_ids).all()
    for rule in LATE_RULES:
        model.config = config.model_copy(update={"late": LateConfig.model_validate({"rule": rule})})
        levels, valid, fused = whole(model, store, gallery)
        assert not valid.any(axis=0).all()
        found = score_gallery(model, store, gallery, CPU)
        np.testing.assert_array_equal(found.valid_LV, valid)
        np.testing.assert_allclose(found.levels_LQV, levels, atol=2e-6)
        # Ranks jump where scores differ by rounding, so rules are asked of the same levels.
        of_found = LATE_RULES[rule](found.levels_LQV, valid, model.late.calibration())
        known = found.present_Q[:, None] & valid.any(axis=0)
        np.testing.assert_array_equal(found.fused_QV[known], of_found[known].astype(np.float32))
        assert (found.fused_QV[~known] == found.fused_QV[known].min() - np.float32(1)).all()
        if rule not in ("reciprocal_rank", "best_rank"):
            np.testing.assert_allclose(found.fused_QV, fused, atol=2e-4)


@pytest.mark.parametrize("scoring", ["mean", "wti"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.usefixtures("small_blocks")
def test_the_file_has_the_same_bits_for_any_memory(
    odd: Any, config: FusionConfig, scoring: str, own: bool, tmp_path: Path
) -> None:
    model_config = config.model.model_copy(update={"own_captions": own})
    config = config.model_copy(update={"scoring": scoring, "model": model_config})
    store = FeatureStore.open(odd.store, "synthetic", config)
    gallery = Gallery.of(odd.manifest.split("test"), store, "test")
    model = made(config, store)
    header = checkpoint.CheckpointHeader(config, store.info, "synthetic", "0" * 64, 0)
    checkpoint.save(RunFolder(tmp_path).checkpoint, model, header)
    least = least_memory(config, store, gallery)
    files, kept = [], []
    for memory in (least, least + 2000):
        told = config.model_copy(update={"eval": EvalConfig(memory_mb=memory, bank=11)})
        space = Workspace.of(told, store, [gallery.query_ids], gallery.video_ids)
        kept.append(space.kept)
        files.append(evaluate(odd.manifest, odd.store, tmp_path, told).read_bytes())
    assert kept[1] >= len(space.queries[0].parts) > 2
    assert files[0] == files[1]
    file = SimilarityFile.read(tmp_path / "similarity.h5")
    in_memory = score_gallery(model, store, gallery, CPU)
    for matrix, expected in zip(file.scores.values(), in_memory.levels_LQV, strict=False):
        np.testing.assert_array_equal(matrix, expected)
    np.testing.assert_array_equal(file.scores["late_fusion"], in_memory.fused_QV)
    np.testing.assert_array_equal(list(file.masks.values()), in_memory.valid_LV)


def least_memory(config: FusionConfig, store: FeatureStore, gallery: Gallery) -> int:
    """What the message says that it takes."""
    too_little = config.model_copy(update={"eval": EvalConfig(memory_mb=1)})
    with pytest.raises(UsageError, match=r"fuse\.eval\.memory_mb=1: scoring 20 videos") as caught:
        Workspace.of(too_little, store, [gallery.query_ids], gallery.video_ids)
    least = int(str(caught.value).partition("needs ")[2].partition(" MiB")[0])
    enough = config.model_copy(update={"eval": EvalConfig(memory_mb=least)})
    Workspace.of(enough, store, [gallery.query_ids], gallery.video_ids)
    return least


@pytest.mark.parametrize("room", [0, 1, 3, 99])
@pytest.mark.usefixtures("small_blocks")
def test_queries_that_are_not_kept_are_encoded_again(
    odd: Any, config: FusionConfig, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore.open(odd.store, "synthetic", config)
    gallery = Gallery.of(odd.manifest.split("test"), store, "test")
    model = made(config, store)
    before = score_gallery(model, store, gallery, CPU)
    space = Workspace.of(config, store, [gallery.query_ids], gallery.video_ids)
    monkeypatch.setattr(Workspace, "of", lambda *_: replace(space, kept=room))
    encoded: list[int] = []
    encode = model.encode_queries

    def counted(captions: Any) -> Any:
        encoded.append(len(captions["captions"].mask))
        return encode(captions)

    monkeypatch.setattr(model, "encode_queries", counted)
    after = score_gallery(model, store, gallery, CPU)
    queries, videos = len(space.queries[0].parts), len(space.videos.parts)
    kept = min(room, queries)
    assert len(encoded) == kept + (queries - kept) * videos
    np.testing.assert_array_equal(after.levels_LQV, before.levels_LQV)
    np.testing.assert_array_equal(after.fused_QV, before.fused_QV)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=40),
    items=st.integers(1, 12),
    rows=st.integers(1, 60),
)
def test_blocks_cover_all_and_stay_within(
    lengths: list[tuple[int, int]], items: int, rows: int
) -> None:
    blocks = Blocks.of(np.array(lengths).T, items, rows)
    covered = [i for part in blocks.parts for i in range(part.start, part.stop)]
    assert covered == list(range(len(lengths)))
    for part, padded in zip(blocks.parts, blocks.rows_RP.T, strict=True):
        own = np.maximum(np.array(lengths[part]), 1)
        assert padded.tolist() == own.max(axis=0).tolist()
        assert len(own) == 1 or (len(own) <= items and len(own) * padded.sum() <= rows)
    for part, after in zip(blocks.parts, blocks.parts[1:], strict=False):
        more = np.maximum(np.array(lengths[part.start : after.start + 1]), 1)
        assert len(more) > items or len(more) * more.max(axis=0).sum() > rows


def test_the_bank_is_of_training_captions_alone(corpus: Any, run: Any) -> None:
    store = FeatureStore.open(corpus.store, "synthetic", FusionConfig())
    train = corpus.manifest.split("train")
    ids = querybank(train, store, 30)
    everyone = [f"{row.id}#{n}" for row in train for n in range(len(row.captions))]
    assert ids == tuple(sorted(everyone, key=lambda x: sha256_hex(x.encode()))[:30])
    assert querybank(train, store, 20) == ids[:20]
    asked = Gallery.of(corpus.manifest.split("test"), store, "test").query_ids
    assert not set(ids) & set(asked)
    with pytest.raises(UsageError, match=r"fuse\.eval\.bank=121: split train has 120 captions"):
        querybank(train, store, 121)
    told = FusionConfig(eval=EvalConfig(bank=5))
    with pytest.raises(UsageError, match="which are the queries of --split train"):
        evaluate(corpus.manifest, corpus.store, run.folder, told, "train")


def test_a_bank_from_the_command_to_the_table(corpus: Any, run: Any, tmp_path: Path) -> None:
    RunFolder(tmp_path).checkpoint.write_bytes(run.summary.checkpoint.read_bytes())
    plain = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, tmp_path))
    scores = {name: np.array(matrix) for name, matrix in plain.scores.items()}
    corpus.manifest.save(tmp_path / "manifest")
    result = invoke(
        *("eval", "--manifest", tmp_path / "manifest", "--store", corpus.store),
        *("--run", tmp_path, "--set", "fuse.eval.bank=40"),
    )
    assert result.exit_code == 0, result.output
    file = SimilarityFile.read(tmp_path / "similarity.h5")
    assert list(file.bank) == list(file.scores)
    for name, matrix in file.bank.items():
        assert matrix.shape == (40, 20)
        np.testing.assert_array_equal(file.scores[name], scores[name])
    # The bank is scored as a query of the gallery would be.
    store = FeatureStore.open(corpus.store, "synthetic", FusionConfig())
    model, _ = checkpoint.load(run.summary.checkpoint, store)
    ids = querybank(corpus.manifest.split("train"), store, 40)
    asked = Gallery(ids, file.video_ids, np.zeros(40, dtype=np.int64))
    alone = score_gallery(model, store, asked, CPU)
    np.testing.assert_allclose(file.bank["visual"], alone.levels_LQV[0], atol=2e-6)
    np.testing.assert_allclose(file.bank["late_fusion"], alone.fused_QV, atol=2e-4)
    table = SimilarityTable().build([tmp_path / "similarity.h5"])
    blocks = {block.label: block for _, block, _ in table.rows()}
    apart = [block for label, block in blocks.items() if "transductive" in label]
    assert [row.name for row in apart[0].rows] == [f"{n} + querybank 20" for n in file.scores]
    for row in apart[0].rows:
        assert list(row.metrics) == ["t2v"]
        assert "transductive" in [flag.name for flag in row.flags]
    printed = invoke("tables", tmp_path / "similarity.h5", "--json")
    names = {r["name"]: r for r in json.loads(printed.output) if "querybank" in r["name"]}
    assert names["late_fusion + querybank 20"]["direction"] == "t2v"


def test_a_video_that_nobody_scored_stays_last_after_a_querybank(
    corpus: Any, run: Any, tmp_path: Path
) -> None:
    """Its scores are as low in the bank as they are in the gallery, so that it would gain."""
    RunFolder(tmp_path).checkpoint.write_bytes(run.summary.checkpoint.read_bytes())
    told = FusionConfig(eval=EvalConfig(bank=100))
    path = evaluate(corpus.manifest, corpus.store, tmp_path, told)
    file = SimilarityFile.read(path)
    found = {row.name: row.metrics["t2v"] for _, _, row in SimilarityTable().build([path]).rows()}
    for name, known in {**file.masks, "late_fusion": file.covered_V}.items():
        banked = Querybank.of(file.scores[name], file.bank[name], 20.0, known)
        assert (banked[:][:, ~known] < banked[:][:, known].min(axis=1, keepdims=True)).all()
        ranks = t2v_ranks(banked, file.video_of_query)
        lost = ~known[file.video_of_query]
        last = known.sum() + (1 + (~known).sum()) / 2  # in the middle of those that nobody scored
        assert (ranks.expected[lost] == last).all()
        assert found[f"{name} + querybank 20"].runs[0].mean_rank == ranks.expected.mean()


def test_a_query_without_features_keeps_its_tie_after_a_querybank() -> None:
    rng = np.random.default_rng(0)
    scores, bank = rng.random((5, 8)), rng.random((30, 8))
    scores[3] = LOWEST
    banked = Querybank.of(scores, bank, 20.0)
    assert banked.active.all()
    assert len(set(banked[3:4][0])) == 1


def test_several_processes_are_refused(
    corpus: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="m2hf eval is one process, but WORLD_SIZE=2"):
        evaluate(corpus.manifest, corpus.store, run.folder)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        evaluate(corpus.manifest, corpus.store, run.folder)
    assert ended.value.code == 2


def test_other_similarity_files_of_a_run(
    corpus: Any, run: Any, tmp_path: Path, m2hf: Callable[..., Any]
) -> None:
    corpus.manifest.save(tmp_path / "manifest")
    before = evaluate(corpus.manifest, corpus.store, run.folder).read_bytes()
    paths = ("--manifest", tmp_path / "manifest", "--store", corpus.store, "--run", run.folder)
    for rule in ("mention", "max"):
        out = tmp_path / f"{rule}.h5"
        done = m2hf("eval", *paths, "--out", out, "--set", f"fuse.late.rule={rule}")
        assert done.returncode == 0, done.stderr
        assert SimilarityFile.read(out).config["late"]["rule"] == rule
    assert (run.folder / "similarity.h5").read_bytes() == before
    table = tmp_path / "table.md"
    files = [f"{rule}={tmp_path / rule}.h5" for rule in ("mention", "max")]
    assert m2hf("tables", *files, "--out", table).returncode == 0
    traced = m2hf("trace", table, "late_fusion@max", "--run", tmp_path / "max.h5")
    assert traced.returncode == 0, traced.stdout
    assert "every number of the row is the same" in traced.stdout
    refused = m2hf("eval", *paths, "--out", tmp_path / "folder")
    assert refused.returncode == 2
    assert "expected a similarity file to write" in refused.stderr


def test_a_failure_leaves_the_file_that_was_there(
    corpus: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder(tmp_path).checkpoint.write_bytes(run.summary.checkpoint.read_bytes())
    before = evaluate(corpus.manifest, corpus.store, tmp_path).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("m2hf.fuse.evaluation.evaluate.fuse_levels", full)
    with pytest.raises(Exception, match=r"similarity\.h5: can't write \(No space left"):
        evaluate(corpus.manifest, corpus.store, tmp_path)
    assert (tmp_path / "similarity.h5").read_bytes() == before
    assert [p.name for p in tmp_path.glob(".*")] == []


def invoke(*arguments: object) -> Any:
    from typer.testing import CliRunner

    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_matrices_in_a_file_have_the_same_bits(
    odd: Any, config: FusionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore.open(odd.store, "synthetic", config)
    gallery = Gallery.of(odd.manifest.split("test"), store, "test")
    model = made(config, store)
    in_memory = score_gallery(model, store, gallery, CPU, Calibration.of)
    monkeypatch.setattr(
        "m2hf.fuse.evaluation.score.matrices", lambda *given: matrices(*given[:3], most_bytes=0)
    )
    in_a_file = score_gallery(model, store, gallery, CPU, Calibration.of)
    for name in ("levels_LQV", "valid_LV", "fused_QV", "present_Q"):
        np.testing.assert_array_equal(getattr(in_a_file, name), getattr(in_memory, name))
