"""The feature store: ragged rows in, padded batches out, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from m2hf.damage import record_damage
from m2hf.errors import MismatchError, ShardError, UsageError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.features.stream import Stream
from m2hf.layout import StoreLayout
from m2hf.shard import Shard


@pytest.fixture
def store(corpus: Any) -> FeatureStore:
    return FeatureStore.open(corpus.store, "synthetic", FusionConfig())


def stored(corpus: Any, extractor: str) -> dict[str, Features]:
    layout = StoreLayout(corpus.store, "synthetic")
    paths = layout.shards(layout.find_stream(extractor))
    return {item.id: item.features for path in paths for item in Shard.open(path).items()}


def test_gather_gives_what_was_stored(corpus: Any, store: FeatureStore) -> None:
    audio = stored(corpus, "audio")
    ids = ["train002", "train000", "nobody", "train003", "train002"]  # 000 is EMPTY
    rows = store["audio"].gather(ids)
    longest = max(len(audio[i].values) for i in ids if i in audio)
    assert rows.values_BND.shape == (5, longest, 12)
    assert rows.values_BND.dtype == audio["train002"].values.dtype
    assert rows.mask_BN.sum(axis=1).tolist() == store["audio"].lengths(ids).tolist()
    assert store["audio"].present(ids).tolist() == [True, False, False, True, True]
    n = len(audio["train002"].values)
    np.testing.assert_array_equal(rows.values_BND[0, :n], audio["train002"].values)
    np.testing.assert_array_equal(rows.time_s_BN[0, :n], np.arange(n) + 0.5)
    assert not rows.values_BND[~rows.mask_BN].any()
    for array in rows:
        np.testing.assert_array_equal(array[0], array[4])


def test_a_batch_of_missing_items_is_one_padded_row_wide(store: FeatureStore) -> None:
    rows = store["audio"].gather(["train000", "nobody"])
    assert rows.values_BND.shape == (2, 1, 12)
    assert not rows.mask_BN.any()


def test_captions_by_sentence_alone(corpus: Any, store: FeatureStore) -> None:
    rows = store["captions"].gather(["train000#0", "train000#1"], first=1)
    sentence = stored(corpus, "caption")["train000#1"].values[0]
    assert rows.values_BND.shape == (2, 1, 16)
    np.testing.assert_array_equal(rows.values_BND[1, 0], sentence)


def test_info_carries_flags_and_fingerprints(store: FeatureStore) -> None:
    info = store.info["audio"]
    assert info.flags == ("untrained",)
    assert info.width == 12
    assert info.name == f"audio@{info.fingerprint[:8]}"
    assert store.info["frames"].flags == ()


def test_digest_is_of_the_items_and_not_of_their_order(store: FeatureStore) -> None:
    audio = store["audio"]
    assert audio.digest(["train001", "train002"]) == audio.digest(["train002", "train001"])
    assert audio.digest(["train001", "nobody"]) == audio.digest(["train001"])
    assert audio.digest(["train001"]) != audio.digest(["train002"])


def test_a_missing_stream_says_how_to_go_without(corpus: Any) -> None:
    config = FusionConfig(streams={"audio": "sound"})
    with pytest.raises(UsageError, match=r"'sound'.*fuse.levels.audio_visual.enabled=false"):
        FeatureStore.open(corpus.store, "synthetic", config)
    with pytest.raises(UsageError, match="no features of 'clip'"):
        FeatureStore.open(corpus.store, "other set", FusionConfig())


def test_frames_of_another_space_are_refused(
    new_corpus: Callable[[Path], Any], write_stream: Any, tmp_path: Path
) -> None:
    corpus = new_corpus(tmp_path)
    rows = Features(np.ones((1, 20), np.float32), np.zeros(1), np.ones(1))
    write_stream(tmp_path, "clip", {"train000": rows}, 20, fingerprint="b" * 64)
    with pytest.raises(UsageError, match="more than one config"):
        FeatureStore.open(corpus.store, "synthetic", FusionConfig())
    config = FusionConfig(streams={"frames": "clip@bbbbbbbb"})
    with pytest.raises(MismatchError, match=r"frames are clip@bbbbbbbb of width 20 and captions"):
        FeatureStore.open(corpus.store, "synthetic", config)


def test_a_foreign_shard_and_a_repeated_item_are_refused(
    new_corpus: Callable[[Path], Any], tmp_path: Path
) -> None:
    new_corpus(tmp_path)
    layout = StoreLayout(tmp_path, "synthetic")
    shards = [
        Shard.open(next(iter(layout.shards(layout.find_stream(name))))) for name in ("clip", "text")
    ]
    with pytest.raises(ShardError, match="among shards of"):
        Stream("clip", shards)
    with pytest.raises(ShardError, match="is also in"):
        Stream("clip", [shards[0], shards[0]])


def test_items_that_are_recorded_as_damaged_are_not_used(
    new_corpus: Callable[[Path], Any], tmp_path: Path
) -> None:
    corpus = new_corpus(tmp_path)
    layout = StoreLayout(tmp_path, "synthetic")
    record_damage(next(iter(layout.shards(layout.find_stream("clip")))), ["train001"])
    with pytest.raises(ShardError, match=r"1 damaged items, .* 'train001'; extract it again"):
        FeatureStore.open(corpus.store, "synthetic", FusionConfig())


def test_nan_in_a_shard_never_reaches_a_model(
    new_corpus: Callable[[Path], Any], tmp_path: Path
) -> None:
    corpus = new_corpus(tmp_path)
    layout = StoreLayout(tmp_path, "synthetic")
    path = next(iter(layout.shards(layout.find_stream("clip"))))
    with h5py.File(path, "r+") as file:
        file["values"][0, 3] = np.nan
        victim = file["id"][0].decode()
    store = FeatureStore.open(corpus.store, "synthetic", FusionConfig())
    with pytest.raises(ShardError, match=f"item '{victim}' holds NaN"):
        store["frames"].gather(["train001", victim])
