"""A level of `aligned` fusion learns which of two figures was there while a sound was heard.

Families of four clips: {sound S, sound T} x {it is heard while figure A is there, while B is}.
A and B are seen in turn, in either order. Alike in their mean frame and, two by two, in their mean
sound, the four can be told apart by what came together in time alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from m2hf.features import Features, unit_rows
from m2hf.fuse.config import FusionConfig, ModelConfig, TrainConfig
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model.checkpoint import load
from m2hf.fuse.model.retriever import Retriever
from m2hf.fuse.model.tokens import Tokens, caption_tokens, video_tokens
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.training.run import train
from m2hf.layout import StoreLayout
from m2hf.manifest import Card, Manifest, Row, Split

WIDTH, FIGURES, SOUNDS = 32, 10, 6
FRAMES, WINDOWS, LENGTH_S = 8, 8, 4.0
FAMILIES: dict[Split, int] = {"train": 150, "val": 15, "test": 60}
EPOCHS = 24
CPU = torch.device("cpu")


def rows_of(values: NDArray[np.float64]) -> Features:
    """Rows that divide the clip evenly."""
    edges = np.linspace(0, LENGTH_S, len(values) + 1)
    return Features(values.astype(np.float32), edges[:-1], edges[1:])


def streams_of(rows: Sequence[Row]) -> dict[str, dict[str, Features]]:
    """clip, audio and caption of families of four consecutive rows."""
    rng = np.random.default_rng(11)
    figures, heard = rng.normal(size=(FIGURES, WIDTH)), rng.normal(size=(SOUNDS, WIDTH))
    said = rng.normal(size=(SOUNDS, WIDTH))
    with_sound, without = rng.normal(size=(2, FIGURES, WIDTH))
    streams: dict[str, dict[str, Features]] = {"clip": {}, "audio": {}, "caption": {}}
    for number, row in enumerate(rows):
        if number % 4 == 0:
            pair = rng.choice(FIGURES, 2, replace=False)
            sounds = rng.choice(SOUNDS, 2, replace=False)
        sound, (there, quiet) = sounds[number % 2], pair if number % 4 < 2 else pair[::-1]
        order = [there, quiet] if rng.random() < 0.5 else [quiet, there]
        seen = figures[np.repeat(order, FRAMES // 2)]
        loud = np.repeat([figure == there for figure in order], WINDOWS // 2)
        audio = np.where(loud[:, None], heard[sound], 0.0)
        sentence = figures[pair].sum(axis=0) + said[sound] + with_sound[there] + without[quiet]
        streams["clip"][row.id] = rows_of(unit_rows(seen + 0.3 * rng.normal(size=seen.shape)))
        streams["audio"][row.id] = rows_of(audio + 0.3 * rng.normal(size=audio.shape))
        words = unit_rows(sentence[None] + 0.3 * rng.normal(size=(1, WIDTH)))
        streams["caption"][f"{row.id}#0"] = rows_of(words)
    return streams


@dataclass(frozen=True)
class Timing:
    """The set of families: its manifest, and the store with its features."""

    manifest: Manifest
    store: Path

    def recall(self, level: str, form: str, run: Path) -> tuple[float, float]:
        """T2V R@1 in percent among the four of a test family, of a level that is trained alone
        with this early fusion: with the times of the sound, and with its times permuted."""
        config = FusionConfig(
            device="cpu",
            levels={level: {"fusion": form}},
            model=ModelConfig(width=32, heads=4, dropout=0.1),
            train=TrainConfig(epochs=EPOCHS, batch_size=128, lr=3e-3, patience=EPOCHS),
        ).only(level)
        train(self.manifest, self.store, run, config)
        store = FeatureStore.open(self.store, "synthetic", config)
        model = load(RunFolder(run).checkpoint, store)[0].eval()
        videos = [row.id for row in self.manifest.rows if row.split == "test"]
        streams = video_tokens(store, videos, CPU)
        captions = caption_tokens(store, [f"{video}#0" for video in videos], 1, CPU)
        right = among_twins(model, captions, streams)
        if "audio" in streams:
            streams["audio"] = permuted(streams["audio"])
        return right, among_twins(model, captions, streams)


@torch.no_grad()
def among_twins(
    model: Retriever, captions: Mapping[str, Tokens], streams: Mapping[str, Tokens]
) -> float:
    scores_QB = model(captions, streams).levels[0]
    video = torch.arange(len(scores_QB))
    family = video // 4
    others_QB = family[:, None] != family
    return 100 * float((scores_QB.masked_fill(others_QB, -2).argmax(dim=1) == video).float().mean())


def permuted(audio: Tokens) -> Tokens:
    """The same rows, each at the time of another."""
    order = torch.rand(audio.mask.shape, generator=torch.Generator().manual_seed(0)).argsort(dim=1)
    return Tokens(audio.values, audio.mask, audio.time_s.gather(1, order))


@pytest.fixture(scope="module")
def timing(tmp_path_factory: pytest.TempPathFactory, write_stream: Any) -> Timing:
    store = tmp_path_factory.mktemp("timing")
    rows = tuple(
        Row(id=f"{split}{i:03d}", path=f"{split}{i:03d}.mp4", split=split, captions=("words",))
        for split, families in FAMILIES.items()
        for i in range(4 * families)
    )
    StoreLayout(store, "synthetic").record(4)
    for name, items in streams_of(rows).items():
        write_stream(store, name, items, WIDTH)
    return Timing(Manifest(Card(name="synthetic", protocol="one_caption"), rows), store)


def test_aligned_fusion_learns_what_came_together(timing: Timing, tmp_path: Path) -> None:
    right, shuffled = timing.recall("audio_visual", "aligned", tmp_path)
    assert right > 85
    assert 40 < shuffled < 60  # the sound itself tells two of the four apart


def test_a_pooled_sound_tells_only_the_sounds_apart(timing: Timing, tmp_path: Path) -> None:
    right, shuffled = timing.recall("audio_visual", "concat", tmp_path)
    assert 40 < right < 60
    assert shuffled == right


def test_frames_alone_tell_none_of_the_four_apart(timing: Timing, tmp_path: Path) -> None:
    right, _ = timing.recall("visual", "none", tmp_path)
    assert 18 < right < 32
