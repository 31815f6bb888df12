"""Random features of a benchmark's size, and a model that was trained on them for one epoch.

Its rankings are meaningless; its cost is that of a real one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.levels.corpus import NAME, write_stream
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.training.run import train
from m2hf.manifest import Card, Manifest, Row, Split, captions_of


@dataclass(frozen=True)
class GallerySize:
    """Number of captions (queries), each of `words` words, and of videos, with `rows` rows of width
    `width` in each stream; caption i is of video i modulo the number of videos."""

    queries: int
    videos: int
    rows: int
    words: int
    width: int

    @property
    def stored_bytes(self) -> int:
        """Bytes of four streams of videos and one of captions on disk, in half precision."""
        of_videos = 4 * self.videos * self.rows
        return 2 * self.width * (of_videos + self.queries * (1 + self.words))


SIZES = {
    "activitynet": GallerySize(4_917, 4_917, rows=64, words=64, width=512),
    "msvd": GallerySize(27_763, 670, rows=12, words=32, width=512),
}


def write(root: Path, size: GallerySize, config: FusionConfig) -> Manifest:
    """Write store, manifest and a run of one epoch to `root`."""
    rows = list(_rows(size))
    manifest = Manifest(Card(name=NAME, protocol="multi_caption"), tuple(rows))
    manifest.save(root / "manifest")
    rng = np.random.default_rng(0)
    videos, captions = [row.id for row in rows], [caption.id for caption in captions_of(rows)]
    for name in ("clip", "audio", "motion", "text"):
        items = {item: _features(rng, size.rows, size.width) for item in videos}
        write_stream(root / "store", name, items, size.width, 0)
    items = {item: _features(rng, 1 + size.words, size.width) for item in captions}
    write_stream(root / "store", "caption", items, size.width, 0)
    short = config.train.model_copy(update={"epochs": 1})
    train(manifest, root / "store", root / "run", config.model_copy(update={"train": short}))
    return manifest


def _rows(size: GallerySize) -> Iterator[Row]:
    counts: tuple[tuple[Split, int, int], ...] = (("test", size.videos, size.queries),)
    counts += (("train", 4, 4), ("val", 2, 2))
    for split, videos, queries in counts:
        for video in range(videos):
            texts = tuple(f"caption {n}" for n in range(video, queries, videos))
            item = f"{split}{video:05d}"
            yield Row(id=item, path=f"{item}.mp4", split=split, captions=texts)


def _features(rng: np.random.Generator, rows: int, width: int) -> Features:
    values = rng.standard_normal((rows, width), dtype=np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    starts = np.arange(rows, dtype=np.float64)
    return Features(values, starts, starts + 1)
