"""Checkpoints: they read back, and refuse a store they don't belong to."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import safetensors.torch
import torch

from m2hf.errors import MismatchError, UsageError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig, Level, ModelConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model import checkpoint
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.layout import StoreLayout
from m2hf.shard import Shard


def test_it_reads_back(corpus: Any, run: Any, config: FusionConfig, tmp_path: Path) -> None:
    store = FeatureStore.open(corpus.store, "synthetic", config)
    model, header = checkpoint.load(run.summary.checkpoint, store)
    assert header.config == config
    assert header.streams == store.info
    assert header.streams["audio"].flags == ("untrained",)
    assert header.manifest == corpus.manifest.digest
    assert header.dataset == "synthetic"
    assert header.epoch == run.summary.best_epoch
    checkpoint.save(tmp_path / "again", model, header)
    assert (tmp_path / "again").read_bytes() == run.summary.checkpoint.read_bytes()


def rewrite(root: Path, corpus: Any, write_stream: Any, width: int) -> None:
    """Replace the audio stream by one of another config and `width`."""
    layout = StoreLayout(root, "synthetic")
    folder = layout.folder / layout.find_stream("audio")
    items: dict[str, Features] = {}
    for path in list(layout.shards(folder.name)):
        for item in Shard.open(path).items():
            f = item.features
            values = f.values[:, :width]
            items[item.id] = Features(values, f.start_s, f.end_s, reason=f.reason)
        path.unlink()
    folder.rmdir()
    write_stream(root, "audio", items, width, fingerprint="c" * 64)


@pytest.mark.parametrize("width", [12, 7])
def test_another_stream_is_one_clear_line(
    new_corpus: Callable[[Path], Any], write_stream: Any, run: Any, tmp_path: Path, width: int
) -> None:
    corpus = new_corpus(tmp_path)
    rewrite(tmp_path, corpus, write_stream, width)
    with pytest.raises(MismatchError) as caught:
        evaluate(corpus.manifest, corpus.store, run.folder)
    line = str(caught.value)
    assert "\n" not in line
    assert "stream audio: trained on audio@" in line
    assert f"the store has audio@cccccccc of width {width}" in line
    assert "train again" in line


def test_other_levels_or_sizes_are_refused(corpus: Any, run: Any, config: FusionConfig) -> None:
    fewer = FusionConfig(levels={"text": Level(stream="text", enabled=False)}, model=config.model)
    with pytest.raises(MismatchError, match=r"other fuse\.levels"):
        evaluate(corpus.manifest, corpus.store, run.folder, fewer)
    with pytest.raises(MismatchError, match=r"other fuse\.model"):
        evaluate(corpus.manifest, corpus.store, run.folder, FusionConfig(model=ModelConfig()))


def test_a_config_may_say_where_to_run(corpus: Any, run: Any) -> None:
    here = FusionConfig(device="cpu", streams={"audio": "audio"})
    file = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, run.folder, here))
    assert file.config["model"]["width"] == 32
    with pytest.raises(UsageError, match="no features of 'sound'"):
        evaluate(
            corpus.manifest, corpus.store, run.folder, FusionConfig(streams={"audio": "sound"})
        )


def test_broken_files_are_named(corpus: Any, run: Any, tmp_path: Path) -> None:
    path = RunFolder(tmp_path).checkpoint
    with pytest.raises(UsageError, match="no checkpoint"):
        evaluate(corpus.manifest, corpus.store, tmp_path)
    whole = run.summary.checkpoint.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="damaged checkpoint"):
        checkpoint.read_header(path)
    safetensors.torch.save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match="not a checkpoint of m2hf"):
        checkpoint.read_header(path)
    path.write_bytes(whole.replace(b'\\"version\\":1', b'\\"version\\":9'))
    with pytest.raises(UsageError, match="schema version 9, this m2hf reads 1"):
        checkpoint.read_header(path)


def test_a_checkpoint_has_the_mode_that_the_umask_gives(run: Any) -> None:
    os.umask(umask := os.umask(0))
    assert stat.S_IMODE(run.summary.checkpoint.stat().st_mode) == 0o666 & ~umask


def test_a_checkpoint_without_read_permission_is_not_called_damaged(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_found(*_: object, **__: object) -> NoReturn:  # what safetensors raises then
        raise FileNotFoundError("No such file or directory")

    def denied(*_: object) -> NoReturn:
        raise PermissionError("no")

    monkeypatch.setattr("safetensors.safe_open", not_found)
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UsageError, match=r"^permission denied: .*\.safetensors: this user"):
        checkpoint.read_header(run.summary.checkpoint)
