"""Share of a training step that is spent on loading features, at the sizes of CLIP features.

Measured in a real training: only the conversion of a batch's features to tensors is timed. The
store is in the page cache, as it is from the second epoch on.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.levels.corpus import NAME, write_stream
from m2hf.config import parse, read_recipe
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.model.tokens import caption_tokens, video_tokens
from m2hf.fuse.training.run import EpochReport, train
from m2hf.manifest import Card, Manifest, Row

BATCH, FRAMES, WORDS, WIDTH = 128, 12, 32, 512

_STREAMS = {"clip": (FRAMES, WIDTH), "audio": (10, 768), "motion": (8, WIDTH), "text": (4, WIDTH)}
_BATCHES, _EPOCHS = 4, 3


def measure(threads: int, more: Sequence[str] = ()) -> dict[str, Any]:
    """Milliseconds of a step and of its loading, and the share of loading, with torch `threads`."""
    overrides = [f"fuse.threads={threads}", f"fuse.train.epochs={_EPOCHS}", *more]
    overrides += ["fuse.device=cpu", f"fuse.train.batch_size={BATCH}", "fuse.train.patience=99"]
    config = parse(FusionConfig, read_recipe(None, overrides)["fuse"])
    loaded: list[float] = []
    marks: list[tuple[float, float]] = []

    def mark(_: EpochReport) -> None:
        marks.append((time.perf_counter(), sum(loaded)))

    with tempfile.TemporaryDirectory() as temporary, _timed(loaded):
        root = Path(temporary)
        train(_write(root / "store"), root / "store", root / "run", config, on_epoch=mark)
    (began, before), (ended, after) = marks[1], marks[-1]  # the first epoch warms up
    steps = _BATCHES * (len(marks) - 2)
    step, load = (ended - began) / steps, (after - before) / steps
    return {
        "step_ms": round(1000 * step, 1),
        "load_ms": round(1000 * load, 2),
        "share": round(load / step, 4),
        "threads": threads,
        "sizes": f"batch {BATCH}, {FRAMES} frames, {WORDS} words, D {WIDTH}, four levels",
    }


@contextmanager
def _timed(loaded: list[float]) -> Iterator[None]:
    def timed(read: Callable[..., Any]) -> Callable[..., Any]:
        def reader(*given: Any) -> Any:
            began = time.perf_counter()
            tokens = read(*given)
            loaded.append(time.perf_counter() - began)
            return tokens

        return reader

    with (
        patch("m2hf.fuse.training.batch.video_tokens", timed(video_tokens)),
        patch("m2hf.fuse.training.batch.caption_tokens", timed(caption_tokens)),
    ):
        yield


def _write(root: Path) -> Manifest:
    # Two videos to validate on: validation is not part of a step.
    splits = ["train"] * (BATCH * _BATCHES) + ["val"] * 2
    rows = [
        Row.model_validate({"id": f"v{i}", "path": f"v{i}", "split": split, "captions": ["words"]})
        for i, split in enumerate(splits)
    ]
    rng = np.random.default_rng(0)
    for name, (count, width) in _STREAMS.items():
        write_stream(root, name, {r.id: _features(rng, count, width) for r in rows}, width, 0)
    captions = {f"{r.id}#0": _features(rng, 1 + WORDS, WIDTH) for r in rows}
    write_stream(root, "caption", captions, WIDTH, 0)
    return Manifest(Card(name=NAME, protocol="one_caption"), tuple(rows))


def _features(rng: np.random.Generator, rows: int, width: int) -> Features:
    starts = np.arange(rows, dtype=np.float64)
    return Features(rng.normal(size=(rows, width)).astype(np.float32), starts, starts + 1)
