"""Streams that know other videos than the manifest: named, left out when asked, refused if none."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2hf.cli.fuse import train as command
from m2hf.errors import UsageError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.splits import TrainingSet
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.scores.baselines import baselines
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.training.run import train

DEPTH = 6
KNOWN = [f"train{i:03d}" for i in range(0, 60, 2)]  # every other training video


@pytest.fixture
def with_depth(
    new_corpus: Callable[[Path], Any], write_stream: Any, tmp_path: Path
) -> Callable[..., Any]:
    """The synthetic set with a stream for some ids, half of them EMPTY."""

    def make(ids: Iterable[str]) -> Any:
        corpus = new_corpus(tmp_path / "store")
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(2, DEPTH)).astype(np.float32)
        full = Features(rows, np.zeros(2), np.ones(2))
        items = {
            item: full if place % 2 else Features.empty("nothing near", DEPTH)
            for place, item in enumerate(ids)
        }
        write_stream(corpus.store, "depth", items, DEPTH)
        return corpus

    return make


def asked(short: FusionConfig, videos: str) -> FusionConfig:
    return FusionConfig.model_validate(
        {
            **short.model_dump(),
            "train": {**short.train.model_dump(), "epochs": 1, "videos": videos},
            "streams": {"depth": "depth"},
            "levels": {"depth_visual": {"stream": "depth", "fusion": "append"}},
        }
    )


def flat(section: dict[str, Any], under: str = "") -> Iterator[tuple[str, Any]]:
    """Keys as after --set, with their values."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from flat(value, f"{under}{key}.")
        else:
            yield f"{under}{key}", value


def test_all_videos_train_and_what_lacks_an_entry_is_named(
    with_depth: Any, short: FusionConfig, tmp_path: Path
) -> None:
    corpus = with_depth([*KNOWN, "val000", "test000"])
    done = train(corpus.manifest, corpus.store, tmp_path / "run", asked(short, "all"))
    assert (done.train_videos, done.left_out, done.lost) == (60, 0, 0)
    unknown = {f"train{i:03d}" for i in range(1, 60, 2)} | {f"val{i:03d}" for i in range(1, 12)}
    assert {role: set(ids) for role, ids in done.absent.items()} == {"depth": unknown}
    file = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, tmp_path / "run"))
    assert len(file.video_ids) == 20
    assert file.missing["depth"] == 19


def test_the_intersection_only_when_asked(
    with_depth: Any, short: FusionConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = with_depth(KNOWN)
    corpus.manifest.save(tmp_path / "manifest")
    settings = asked(short, "intersection").model_dump(mode="json")
    overrides = [f"fuse.{key}={json.dumps(value)}" for key, value in flat(settings)]
    command(tmp_path / "manifest", corpus.store, tmp_path / "run", set_=overrides)
    said = capsys.readouterr().out
    assert "trained on 60 captions of 30 videos" in said
    assert "depth: no entry for 42 of 72 training and validation videos" in said
    assert "train001, train003, train005, ...\n30 training videos left out" in said
    store = FeatureStore.open(corpus.store, "synthetic", asked(short, "all"))
    rows = corpus.manifest.split("train")
    chosen = TrainingSet.of(rows, store, asked(short, "intersection"))
    assert {caption.video for caption in chosen.captions} == set(KNOWN)
    found = {
        videos: dict(baselines(corpus.manifest, store, asked(short, videos)))["ridge_visual"]
        for videos in ("all", "intersection")
    }
    assert not np.array_equal(found["all"].scores_QV, found["intersection"].scores_QV)


def test_no_common_video_is_one_clear_line(
    with_depth: Any, short: FusionConfig, tmp_path: Path
) -> None:
    corpus = with_depth(["val000", "test000"])
    for videos in ("all", "intersection"):
        with pytest.raises(UsageError) as caught:
            train(corpus.manifest, corpus.store, tmp_path / "run", asked(short, videos))
        line = str(caught.value)
        assert "\n" not in line
        assert "has no entry for any of the 60 training videos" in line
        assert "--set fuse.levels.depth_visual.enabled=false" in line
    assert not (tmp_path / "run").exists()


def test_too_small_an_intersection_is_one_clear_line(
    with_depth: Any, short: FusionConfig, tmp_path: Path
) -> None:
    corpus = with_depth(["train000"])
    with pytest.raises(UsageError, match=r"1 of 60 videos are in every stream \(depth lacks 59\)"):
        train(corpus.manifest, corpus.store, tmp_path / "run", asked(short, "intersection"))


def test_a_stream_that_is_empty_everywhere_is_no_other_video_set(
    silent: Any, short: FusionConfig
) -> None:
    store = FeatureStore.open(silent.store, "synthetic", short)
    chosen = TrainingSet.of(silent.manifest.split("train"), store, short)
    assert (len(chosen.captions), chosen.absent) == (120, {})
