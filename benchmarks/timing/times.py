"""Copies of a store in which the times of the rows are wrong, so that alignment can't work.

permuted: within each clip, the rows of the sound are at each other's times; zero: all rows of
frames and sound are at time 0.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from m2hf.features import Features
from m2hf.layout import StoreLayout
from m2hf.shard import Shard, write_shard

TRUE, PERMUTED, ZERO = "true", "permuted", "zero"
Change = Callable[[Features], Features]


def with_times(store: Path, dataset: str, times: str, frames: str, sound: str, copy: Path) -> Path:
    """A store of `dataset` whose times are `times`: `store` itself, or a changed `copy` of it.

    frames, sound: names of their streams.
    """
    if times == TRUE:
        return store
    shutil.copytree(store, copy)
    layout = StoreLayout.open(copy, dataset)
    permute = partial(_permuted, rng=np.random.default_rng(0))
    changes: Mapping[str, Change] = (
        {sound: permute} if times == PERMUTED else {frames: _zero, sound: _zero}
    )
    for stream, change in changes.items():
        for path in layout.shards(layout.find_stream(stream)):
            _rewrite(path, change)
    return copy


def _rewrite(path: Path, change: Change) -> None:
    shard = Shard.open(path)
    items = [replace(item, features=change(item.features)) for item in shard.items()]
    write_shard(path, shard.header, items, shard.values.dtype.name, shard.values.shape[1])


def _permuted(features: Features, rng: np.random.Generator) -> Features:
    return replace(features, values=rng.permutation(features.values))


def _zero(features: Features) -> Features:
    none = np.zeros_like(features.start_s)
    return replace(features, start_s=none, end_s=none)
