"""Training on the synthetic set: it learns, repeats itself, and says what it lacks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2hf.config import parse
from m2hf.errors import UsageError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.splits import train_and_val
from m2hf.fuse.level_table import Level
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.metrics import text_to_video
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.training.optimiser import warm_cosine
from m2hf.fuse.training.run import EpochReport, train
from m2hf.manifest import Manifest


def recall(path: Path, level: str) -> float:
    file = SimilarityFile.read(path)
    return text_to_video(file.scores[level], file.video_of_query).recall[1].expected


def test_it_learns(corpus: Any, run: Any) -> None:
    seen = evaluate(corpus.manifest, corpus.store, run.folder, split="train")
    assert recall(seen, "late_fusion") > 95
    unseen = evaluate(corpus.manifest, corpus.store, run.folder)
    log = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert recall(unseen, "late_fusion") > 70  # a guess is 5
    assert recall(unseen, "audio_visual") > recall(unseen, "visual") - 5
    assert log[-1]["loss"]["late_fusion"] < 0.1 * log[1]["loss"]["late_fusion"]


def test_the_run_folder(run: Any, config: FusionConfig) -> None:
    names = {path.name for path in run.folder.iterdir()} - {"similarity.h5"}
    written = {"checkpoint.safetensors", "config.json", "curves.png", "metrics.jsonl"}
    assert names == {*written, "validation.json"}
    validation = json.loads((run.folder / "validation.json").read_text())
    assert validation["R@1"] == run.summary.val_recall
    assert (validation["queries"], validation["videos"]) == (12, 12)
    assert validation["epoch"] == run.summary.best_epoch
    assert (run.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    resolved = json.loads((run.folder / "config.json").read_text())
    assert parse(FusionConfig, resolved) == config
    log = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == list(range(run.summary.epochs + 1))
    assert set(log[1]["loss"]) == {*config.active_levels, "late_fusion"}
    summary = run.summary
    assert (summary.train_videos, summary.train_captions, summary.val_videos) == (60, 120, 12)
    assert summary.left_out == 0
    assert log[summary.best_epoch]["best"]


def test_same_seed_same_bytes(corpus: Any, short: FusionConfig, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    for name in ("a", "b"):
        train(corpus.manifest, corpus.store, tmp_path / name, short)
    for name in ("checkpoint.safetensors", "config.json", "metrics.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled() == strict
    other = short.model_copy(update={"train": short.train.model_copy(update={"seed": 4})})
    train(corpus.manifest, corpus.store, tmp_path / "c", other)
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() != (
        tmp_path / "c" / "metrics.jsonl"
    ).read_bytes()


def test_a_finished_run_is_not_overwritten_unasked(
    corpus: Any, short: FusionConfig, tmp_path: Path, m2hf: Any
) -> None:
    folder = RunFolder(tmp_path / "run")
    train(corpus.manifest, corpus.store, folder.root, short)
    before = {path: path.read_bytes() for path in folder.root.iterdir()}
    other = short.model_copy(update={"train": short.train.model_copy(update={"seed": 4})})
    with pytest.raises(UsageError, match="holds a finished run"):
        train(corpus.manifest, corpus.store, folder.root, other)
    assert {path: path.read_bytes() for path in folder.root.iterdir()} == before
    train(corpus.manifest, corpus.store, folder.root, other, overwrite=True)
    assert folder.checkpoint.read_bytes() != before[folder.checkpoint]

    corpus.manifest.save(tmp_path / "manifest")
    paths = ("--manifest", tmp_path / "manifest", "--store", corpus.store, "--run", folder.root)
    refused = m2hf("train", *paths)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--overwrite" in refused.stderr
    sets = ("--set", "fuse.train.epochs=1", "--set", "fuse.model.width=32")
    again = m2hf("train", *paths, *sets, "--overwrite")
    assert again.returncode == 0, again.stderr
    assert "12 validation videos are too few to choose on" in again.stdout


def test_epochs_are_reported_and_patience_ends_them(
    corpus: Any, config: FusionConfig, tmp_path: Path
) -> None:
    # A step this small changes nothing, so no epoch is better than the start.
    settings = config.train.model_copy(update={"lr": 1e-30, "patience": 2, "epochs": 9})
    reports: list[EpochReport] = []
    summary = train(
        corpus.manifest,
        corpus.store,
        tmp_path,
        config.model_copy(update={"train": settings}),
        reports.append,
    )
    assert [r.epoch for r in reports] == [0, 1, 2]
    assert [r.best for r in reports] == [True, False, False]
    assert (summary.epochs, summary.best_epoch) == (2, 0)


def test_validation_is_held_out_of_train_and_never_of_test(corpus: Any) -> None:
    rows = tuple(row for row in corpus.manifest.rows if row.split != "val")
    without = Manifest(corpus.manifest.card, rows)
    kept, held_out = train_and_val(without, 0.1)
    assert len(held_out) == 6
    assert len(kept) == 54
    assert {row.split for row in held_out} == {"train"}
    reverse = Manifest(corpus.manifest.card, rows[::-1])
    assert {r.id for r in train_and_val(reverse, 0.1)[1]} == {r.id for r in held_out}
    assert len(train_and_val(corpus.manifest, 0.1)[1]) == 12


def test_levels_are_chosen_by_config_and_a_silent_set_trains(
    new_corpus: Callable[[Path], Any], write_stream: Any, short: FusionConfig, tmp_path: Path
) -> None:
    corpus = new_corpus(tmp_path / "store")
    rng = np.random.default_rng(0)
    ids = [row.id for row in corpus.manifest.rows]
    rows = {
        i: Features(rng.normal(size=(2, 6)).astype(np.float32), np.zeros(2), np.ones(2))
        for i in ids
    }
    silence = {i: Features.empty("no audio stream", 5) for i in ids}
    write_stream(corpus.store, "depth", rows, 6)
    write_stream(corpus.store, "silence", silence, 5)
    config = FusionConfig(
        streams={"depth": "depth", "audio": "silence"},
        levels={
            "depth_visual": Level(stream="depth", fusion="append"),
            "text": Level(stream="text", enabled=False),
        },
        **short.model_dump(exclude={"streams", "levels"}),
    )
    summary = train(corpus.manifest, corpus.store, tmp_path / "run", config)
    assert list(summary.val_recall) == [
        "visual", "audio_visual", "motion_visual", "depth_visual", "late_fusion"
    ]  # fmt: skip
    assert summary.val_recall["audio_visual"] == summary.val_recall["visual"]


def test_what_is_lacking_is_named(corpus: Any, short: FusionConfig, tmp_path: Path) -> None:
    rows = corpus.manifest.rows
    untaught = Manifest(corpus.manifest.card, tuple(r for r in rows if r.split != "train"))
    with pytest.raises(UsageError, match="split train: 0 of its 0 videos"):
        train(untaught, corpus.store, tmp_path, short)
    mute = Manifest(
        corpus.manifest.card,
        tuple(r.model_copy(update={"captions": ()}) if r.split == "val" else r for r in rows),
    )
    with pytest.raises(UsageError, match=r"split val: none of its .* videos has a caption"):
        train(mute, corpus.store, tmp_path, short)
    renamed = Manifest(
        corpus.manifest.card,
        tuple(r.model_copy(update={"id": f"new{r.id}"}) if r.split == "val" else r for r in rows),
    )
    with pytest.raises(UsageError, match="split val: its 12 captions have no features"):
        train(renamed, corpus.store, tmp_path, short)


def test_a_device_that_is_not_there(corpus: Any, short: FusionConfig, tmp_path: Path) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has MPS")
    with pytest.raises(UsageError, match=r"fuse\.device=mps: torch has none on this machine"):
        train(
            corpus.manifest,
            corpus.store,
            tmp_path,
            short.model_copy(update={"device": "mps"}),
        )


def test_learning_rate_rises_and_falls() -> None:
    shares = [warm_cosine(step, 100, 0.1) for step in range(100)]
    assert shares.index(max(shares)) == 10
    assert shares[:11] == sorted(shares[:11])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert 0 < shares[0] < 0.2
    assert 0 <= shares[-1] < 0.01
    assert warm_cosine(0, 1, 0.0) == 1.0
