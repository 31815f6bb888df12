"""Streams of different spaces: what is projected, into how wide a space, and that it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2hf.errors import MismatchError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import Level
from m2hf.fuse.model.adapters import (
    NormedProjection,
    Projection,
    ResidualAdapter,
    joint_widths,
)
from m2hf.fuse.model.retriever import M2HF
from m2hf.fuse.scores.baselines import baselines
from m2hf.fuse.scores.metrics import text_to_video
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.training.run import EpochReport, train
from m2hf.layout import StoreLayout
from m2hf.shard import Shard

WIDTHS = {"frames": 20, "captions": 9, "audio": 12, "motion": 10, "text": 16}
ALL = ("captions", "frames", "text")


@pytest.fixture(scope="module")
def foreign(
    new_corpus: Callable[[Path], Any], write_stream: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The synthetic set, with frames and captions each in a space of its own."""
    corpus = new_corpus(tmp_path_factory.mktemp("foreign"))
    layout, rng = StoreLayout(corpus.store, "synthetic"), np.random.default_rng(0)
    for new, old in (("frames", "clip"), ("captions", "caption")):
        turned = rng.normal(size=(16, WIDTHS[new]))
        items = {}
        for path in layout.shards(layout.find_stream(old)):
            for item in Shard.open(path).items():
                f = item.features
                values = (3 + f.values.astype(np.float64) @ turned).astype(np.float32)
                items[item.id] = Features(values, f.start_s, f.end_s, reason=f.reason)
        made = {"extractor": old}
        write_stream(corpus.store, f"foreign_{new}", items, WIDTHS[new], config=made)
    return corpus


def projected(config: FusionConfig, *roles: str, **more: Any) -> FusionConfig:
    streams = {"frames": "foreign_frames", "captions": "foreign_captions"}
    given = {"streams": streams, "project": roles, **more}
    return FusionConfig.model_validate({**config.model_dump(), **given})


def test_it_learns_what_no_space_gives(foreign: Any, config: FusionConfig, tmp_path: Path) -> None:
    settings = config.train.model_copy(update={"epochs": 9})
    found = projected(config.model_copy(update={"train": settings}), *ALL)
    reports: list[EpochReport] = []
    train(foreign.manifest, foreign.store, tmp_path, found, reports.append)
    file = SimilarityFile.read(evaluate(foreign.manifest, foreign.store, tmp_path))
    recall = {
        name: text_to_video(scores, file.video_of_query).recall[1].expected
        for name, scores in file.scores.items()
    }
    assert recall["visual"] > 20  # of 20 videos, a guess is 5
    assert recall["late_fusion"] > 50
    assert tuple(file.config["project"]) == ALL
    store = FeatureStore.open(foreign.store, foreign.manifest.card.name, found)
    closed = dict(baselines(foreign.manifest, store, found))
    assert list(closed) == [*(f"ridge_{n}" for n in file.masks), "ridge_concatenated"]
    for name in ("visual", "text"):  # what projections start at
        assert reports[0].val_recall[name] == closed[f"ridge_{name}"].val_recall
    scores = closed["ridge_concatenated"].scores_QV
    assert text_to_video(scores, file.video_of_query).recall[1].expected > 50


def test_captions_are_mapped_by_a_matrix_only_where_there_is_no_zero_shot_start() -> None:
    for project, form, expected in (
        ((), "ridge", ResidualAdapter),
        (("text",), "ridge", ResidualAdapter),
        (("frames",), "ridge", Projection),
        (("frames",), "linear", Projection),
        (("frames",), "adapted", ResidualAdapter),
    ):
        config = FusionConfig.model_validate({"project": project, "model": {"projection": form}})
        widths = {**WIDTHS, **({} if "frames" in project else {"frames": 9}), "text": 9}
        model = M2HF(config, widths).eval()
        assert type(model.adapters["captions"]) is expected
        rows = torch.randn(2, 1, 9)
        torch.testing.assert_close(model.adapters["captions"](rows), rows)
        centred = expected is Projection
        assert ("captions" in model.standardisers) == centred


class Cut(Exception):
    """The run ends here."""


def test_an_ensemble_by_tokens_in_bf16_is_cut_and_goes_on(
    foreign: Any, short: FusionConfig, tmp_path: Path
) -> None:
    levels = {name: {"enabled": False} for name in ("visual", "motion_visual")}
    how = {"strategy": "ensemble", "scoring": "wti", "precision": "bf16", "levels": levels}
    config = projected(short, "frames", "text", **how)
    seen: list[EpochReport] = []

    def cut(report: EpochReport) -> None:
        seen.append(report)
        if len(seen) == 4:  # in the second stage
            raise Cut

    train(foreign.manifest, foreign.store, tmp_path / "whole", config)
    with pytest.raises(Cut):
        train(foreign.manifest, foreign.store, tmp_path / "cut", config, cut)
    train(foreign.manifest, foreign.store, tmp_path / "cut", config)
    for name in ("checkpoint.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    file = SimilarityFile.read(evaluate(foreign.manifest, foreign.store, tmp_path / "cut"))
    assert all(np.isfinite(scores).all() for scores in file.scores.values())
    other = FusionConfig(project=("frames",))
    with pytest.raises(MismatchError, match=r"trained with another fuse\.project"):
        evaluate(foreign.manifest, foreign.store, tmp_path / "cut", other)


def test_other_widths_are_refused_until_they_are_projected(
    foreign: Any, short: FusionConfig
) -> None:
    def opened(*roles: str) -> str:
        with pytest.raises(MismatchError) as caught:
            FeatureStore.open(foreign.store, "synthetic", projected(short, *roles))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "frames are foreign_frames@" in opened()
    assert """--set 'fuse.project=["frames"]'""" in opened()
    assert "text are text@" in opened("frames")
    assert """--set 'fuse.project=["frames", "text"]'""" in opened("frames")
    assert "text are text@" in opened("captions")
    for roles in (("frames", "text"), ("captions", "text"), ("captions", "frames"), ALL):
        FeatureStore.open(foreign.store, "synthetic", projected(short, *roles))


@pytest.mark.parametrize(
    ("roles", "joint", "expected"),
    [
        (("frames", "text"), 0, 9),
        (("captions", "text"), 0, 20),
        (("captions", "frames"), 0, 16),
        (ALL, 0, 9),
        (ALL, 7, 7),
    ],
)
def test_the_joint_space_is_as_wide_as_what_is_not_projected(
    roles: tuple[str, ...], joint: int, expected: int
) -> None:
    config = FusionConfig.model_validate(
        {"project": roles, "model": {"joint": joint, "width": 16, "heads": 2}}
    )
    assert joint_widths(config, WIDTHS)["captions"] == expected


def test_a_level_has_the_same_joint_space_in_any_company() -> None:
    """What an ensemble trains alone doesn't depend on the space of another level."""
    config = FusionConfig(project=("captions", "frames"), strategy="ensemble")
    assert joint_widths(config, WIDTHS)["captions"] == 16  # the text's
    assert joint_widths(config.only("visual"), WIDTHS)["captions"] == 9
    with_it = M2HF(config.only("audio_visual"), WIDTHS).state_dict()
    fewer = {**config.levels, "text": Level(stream="text", enabled=False)}
    without = config.model_copy(update={"levels": fewer}).only("audio_visual")
    shapes = {name: value.shape for name, value in M2HF(without, WIDTHS).state_dict().items()}
    assert shapes == {name: value.shape for name, value in with_it.items()}


def test_projected_rows_start_as_long_as_those_of_clip() -> None:
    torch.manual_seed(0)
    for width, joint in ((300, 40), (40, 300)):
        rows = 7 + 5 * torch.randn(200, width)
        standardised = torch.randn(200, width)
        for projection, given in (
            (NormedProjection(width, joint), rows),
            (Projection(width, joint, 0.5).eval(), standardised),
        ):
            lengths = projection(given.unsqueeze(1)).detach().norm(dim=2)
            assert 0.8 < float(lengths.mean()) < 1.2
