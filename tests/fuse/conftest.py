"""A small synthetic data set, written as shards: what all fusion tests read.

Each video has a latent vector. Its first half shows in the frames, its second half in audio
and motion, and captions speak of both, so that fusing helps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from m2hf.array_types import FloatArray
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig, ModelConfig, TrainConfig
from m2hf.fuse.training.run import TrainSummary, train
from m2hf.keys import bucket_of, fingerprint
from m2hf.layout import StoreLayout
from m2hf.manifest import Card, Manifest, Row, Split, captions_of
from m2hf.shard import ShardItem, write_shard
from m2hf.shard_header import ShardHeader

JOINT, AUDIO, MOTION, LATENT = 16, 12, 10, 12
BUCKETS = 4
UNSEEN = "test019"  # a test video without clip features
SILENT_EVERY, TEXT_EVERY = 4, 5  # one in 4 has no audio, 2 in 5 have text


@dataclass(frozen=True)
class Corpus:
    """A manifest and the store with its features."""

    manifest: Manifest
    store: Path


WriteStream = Callable[..., None]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from more, and on a busy machine more wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def write_stream() -> WriteStream:
    """Write one extractor's shards: (root, extractor, {id: Features}, width, **header)."""
    return _write_stream


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """60 training, 12 validation and 20 test videos."""
    return _corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def new_corpus() -> Callable[[Path], Corpus]:
    """Another copy, for tests that change it."""
    return _corpus


@pytest.fixture(scope="session")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The same without any audio and without any text, as MSVD has none."""
    corpus = _corpus(tmp_path_factory.mktemp("silent"))
    for name, width in (("audio", AUDIO), ("text", JOINT)):
        layout = StoreLayout(corpus.store, "synthetic")
        folder = layout.folder / layout.find_stream(name)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        none = {row.id: Features.empty("none", width) for row in corpus.manifest.rows}
        _write_stream(corpus.store, name, none, width)
    return corpus


@pytest.fixture(scope="session")
def config() -> FusionConfig:
    """Small and quick."""
    return FusionConfig(
        device="cpu",
        model=ModelConfig(width=32, heads=4, dropout=0.0),
        train=TrainConfig(epochs=25, batch_size=16, lr=3e-3, patience=25, seed=3),
    )


@pytest.fixture(scope="session")
def short(config: FusionConfig) -> FusionConfig:
    """Two epochs, where only the plumbing matters."""
    return config.model_copy(update={"train": config.train.model_copy(update={"epochs": 2})})


@dataclass(frozen=True)
class Run:
    """A finished training run."""

    folder: Path
    summary: TrainSummary


@pytest.fixture(scope="session")
def run(corpus: Corpus, config: FusionConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The synthetic set, trained once."""
    folder = tmp_path_factory.mktemp("run")
    return Run(folder, train(corpus.manifest, corpus.store, folder, config))


def _corpus(root: Path) -> Corpus:
    counts: dict[Split, int] = {"train": 60, "val": 12, "test": 20}
    rows = tuple(
        Row(
            id=f"{split}{i:03d}",
            path=f"{split}{i:03d}.mp4",
            split=split,
            captions=("first", "second") if split == "train" else ("only",),
        )
        for split, count in counts.items()
        for i in range(count)
    )
    manifest = Manifest(Card(name="synthetic", protocol="one_caption"), rows)
    StoreLayout(root, "synthetic").record(BUCKETS)
    for extractor, (items, width) in _features(rows).items():
        _write_stream(root, extractor, items, width)
    return Corpus(manifest, root)


def _features(rows: Sequence[Row]) -> dict[str, tuple[dict[str, Features], int]]:
    rng = np.random.default_rng(7)
    latent = {row.id: rng.normal(size=LATENT) for row in rows}
    seen, told = rng.normal(size=(2, LATENT, JOINT))
    heard, moved = rng.normal(size=(LATENT, AUDIO)), rng.normal(size=(LATENT, MOTION))
    look, sound = np.arange(LATENT) < LATENT // 2, np.arange(LATENT) >= LATENT // 2

    def rows_of(base: FloatArray, n: int, noise: float, unit: bool) -> Features:
        values = base + noise * rng.normal(size=(n, len(base)))
        if unit:
            values /= np.linalg.norm(values, axis=1, keepdims=True)
        starts = np.arange(n, dtype=np.float64)
        return Features(values.astype(np.float32), starts, starts + 1)

    clip, caption, audio, motion, text = {}, {}, {}, {}, {}
    for number, row in enumerate(rows):
        z = latent[row.id]
        in_words = z @ np.where(look[:, None], seen, told)
        if row.id != UNSEEN:
            clip[row.id] = rows_of((z * look) @ seen, 3 + number % 4, 0.5, unit=True)
            motion[row.id] = rows_of((z * sound) @ moved, 1 + number % 3, 0.2, unit=False)
        if number % SILENT_EVERY and row.id != UNSEEN:
            audio[row.id] = rows_of(5 + (z * sound) @ heard, 2 + number % 5, 0.2, unit=False)
        else:
            audio[row.id] = Features.empty("no audio stream", AUDIO)
        if number % TEXT_EVERY < 2:
            text[row.id] = rows_of(in_words, 1 + number % 2, 2.0, unit=True)
        else:
            text[row.id] = Features.empty("no text found", JOINT)
        for item in captions_of([row]):
            caption[item.id] = rows_of(in_words, 2 + number % 3, 0.3, unit=True)
    return {
        "clip": (clip, JOINT),
        "caption": (caption, JOINT),
        "audio": (audio, AUDIO),
        "motion": (motion, MOTION),
        "text": (text, JOINT),
    }


def _write_stream(
    root: Path, extractor: str, items: Mapping[str, Features], width: int, **changes: object
) -> None:
    header = ShardHeader(
        dataset="synthetic",
        extractor=extractor,
        revision=1,
        fingerprint=fingerprint({"extractor": extractor}),
        bucket=0,
        buckets=BUCKETS,
        manifest="0" * 64,
        config={"extractor": extractor},
        weights={},
        environment={},
        flags=["untrained"] if extractor == "audio" else [],
    )
    header = replace(header, **changes)  # type: ignore[arg-type]
    layout = StoreLayout(root, "synthetic")
    for bucket in range(BUCKETS):
        inside = [
            ShardItem(item_id, features, "0" * 64)
            for item_id, features in items.items()
            if bucket_of(item_id, BUCKETS) == bucket
        ]
        path = layout.shard(extractor, header.fingerprint, bucket, BUCKETS)
        write_shard(path, replace(header, bucket=bucket), inside, "float16", width)
