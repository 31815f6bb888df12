"""Statistics of columns, against numpy on all rows at once."""

from typing import Any

import numpy as np
import pytest
import torch

from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features import statistics
from m2hf.fuse.features.statistics import (
    ColumnStatistics,
    column_statistics,
    sentence_statistics,
)
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import CAPTIONS
from m2hf.fuse.model.retriever import M2HF
from m2hf.fuse.model.tokens import Tokens, video_tokens
from m2hf.manifest import captions_of


@pytest.fixture
def store(corpus: Any, config: FusionConfig) -> FeatureStore:
    return FeatureStore.open(corpus.store, corpus.manifest.card.name, config)


@pytest.mark.parametrize("role", ["frames", "audio", CAPTIONS])
def test_are_those_of_all_rows(
    corpus: Any, store: FeatureStore, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_CHUNK", 7)
    rows = corpus.manifest.split("train")
    ids = [c.id for c in captions_of(rows)] if role == CAPTIONS else [row.id for row in rows]
    padded = store[role].gather(ids, first=1 if role == CAPTIONS else None)
    rows_ND = padded.values_BND[padded.mask_BN].astype(np.float64)
    if role == CAPTIONS:
        found = sentence_statistics(store[role], ids)
        rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    else:
        found = column_statistics(store[role], ids)
    np.testing.assert_allclose(found.mean_D, rows_ND.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.deviation_D, rows_ND.std(axis=0), rtol=1e-5)


def test_without_rows_nothing_changes_a_value(store: FeatureStore) -> None:
    found = column_statistics(store["audio"], ["no such video"])
    assert (found.mean_D == 0).all()
    assert (found.deviation_D == 1).all()


def test_a_constant_column_is_not_divided_by_0(
    corpus: Any, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = store["audio"].gather

    def constant(ids: Any, first: int | None = None) -> Any:
        rows = gather(ids, first)
        rows.values_BND[..., 0] = 3.0
        return rows

    monkeypatch.setattr(store["audio"], "gather", constant)
    videos = [row.id for row in corpus.manifest.split("train")]
    found = column_statistics(store["audio"], videos)
    assert found.mean_D[0] == 3.0
    assert found.deviation_D[0] == 1.0


def test_a_network_reads_columns_of_any_scale_alike(
    corpus: Any, store: FeatureStore, config: FusionConfig
) -> None:
    rows = [row.id for row in corpus.manifest.split("train")]
    found = {role: column_statistics(store[role], rows) for role in store.video_roles}
    found[CAPTIONS] = sentence_statistics(store[CAPTIONS], ["none"])
    widths = {role: info.width for role, info in store.info.items()}
    model = M2HF(config, widths).eval()
    model.standardise(found.__getitem__)
    given = video_tokens(store, rows[:4], torch.device("cpu"))
    scores = model.fuse_streams(given).levels["audio_visual"].tokens.values
    scale, shift = torch.logspace(-3, 3, widths["audio"]), torch.linspace(-9, 9, widths["audio"])
    audio = given["audio"]
    moved = {**given, "audio": Tokens(audio.values * scale + shift, audio.mask, audio.time_s)}
    columns = found["audio"]
    found["audio"] = ColumnStatistics(
        columns.mean_D * scale.numpy() + shift.numpy(), columns.deviation_D * scale.numpy()
    )
    model.standardise(found.__getitem__)
    again = model.fuse_streams(moved).levels["audio_visual"].tokens.values
    torch.testing.assert_close(again, scores, atol=1e-3, rtol=1e-3)
    assert set(model.standardisers) == {"audio", "motion"}
