"""An ensemble of levels, runs that were cut and went on, and runs that diverge."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated_json

from m2hf.config import parse
from m2hf.errors import MismatchError, UsageError
from m2hf.fuse.config import FusionConfig, LateConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.retriever import Ensemble
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.training.progress import Progress
from m2hf.fuse.training.run import EpochReport, train
from m2hf.fuse.training.stage import StageResult, StageState
from m2hf.fuse.training.trainer import Diverged

LAST = "last.safetensors"
ARTEFACTS = ("checkpoint.safetensors", "config.json", "metrics.jsonl")


@pytest.fixture(scope="module")
def ensemble(short: FusionConfig) -> FusionConfig:
    return short.model_copy(update={"strategy": "ensemble"})


class Cut(Exception):
    """The run ends here."""


def cut_after(reports: int) -> Any:
    seen: list[EpochReport] = []

    def watch(report: EpochReport) -> None:
        seen.append(report)
        if len(seen) == reports:
            raise Cut

    return watch


def same_artefacts(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in ARTEFACTS)


def test_levels_dropped_by_caption_are_drawn_alike_after_a_cut(
    corpus: Any, short: FusionConfig, tmp_path: Path
) -> None:
    dropped = {"train": short.train.model_copy(update={"level_dropout": 0.5})}
    config = short.model_copy(update=dropped)
    train(corpus.manifest, corpus.store, tmp_path / "whole", config)
    with pytest.raises(Cut):
        train(corpus.manifest, corpus.store, tmp_path / "cut", config, cut_after(2))
    train(corpus.manifest, corpus.store, tmp_path / "cut", config)
    assert same_artefacts(tmp_path / "whole", tmp_path / "cut")
    train(corpus.manifest, corpus.store, tmp_path / "all", short)
    first = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[1])["loss"]
        for name in ("whole", "all")
    ]
    assert first[0]["late_fusion"] > first[1]["late_fusion"]  # fewer levels find less


def test_an_ensemble_trains_each_level_alone(
    corpus: Any, ensemble: FusionConfig, tmp_path: Path
) -> None:
    reports: list[EpochReport] = []
    summary = train(corpus.manifest, corpus.store, tmp_path, ensemble, reports.append)
    levels = list(ensemble.active_levels)
    assert list(summary.val_recall) == [*levels, "late_fusion"]
    assert [r.stage for r in reports] == [name for name in levels for _ in range(3)]
    assert set(reports[4].val_recall) == {"audio_visual", "late_fusion"}
    assert summary.epochs == 8
    assert list(summary.stages) == levels
    store = FeatureStore.open(corpus.store, "synthetic", ensemble)
    model, _ = checkpoint.load(summary.checkpoint, store)
    assert isinstance(model, Ensemble)
    file = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, tmp_path))
    assert list(file.scores) == [*levels, "late_fusion"]


def test_a_level_is_trained_alike_with_any_other_levels(
    corpus: Any, ensemble: FusionConfig, tmp_path: Path
) -> None:
    fewer = {
        n: v.model_copy(update={"enabled": v.enabled and n != "text"})
        for n, v in ensemble.levels.items()
    }
    logs = []
    for name, config in (("a", ensemble), ("b", ensemble.model_copy(update={"levels": fewer}))):
        train(corpus.manifest, corpus.store, tmp_path / name, config)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        logs.append([line for line in lines if json.loads(line)["stage"] == "motion_visual"])
    assert logs[0] == logs[1]


@pytest.mark.parametrize("form", ["none", "mixture", "dwa", "uncertainty"])
def test_a_run_that_was_cut_ends_with_the_same_bytes(
    corpus: Any, config: FusionConfig, tmp_path: Path, form: str
) -> None:
    config = FusionConfig.model_validate(
        {
            **config.model_dump(),
            "model": {"width": 32, "heads": 4, "dropout": 0.2, "own_captions": form == "mixture"},
            "train": {**config.train.model_dump(), "epochs": 4},
            "balance": {"form": form},
        }
    )
    train(corpus.manifest, corpus.store, tmp_path / "whole", config)
    for cut in (1, 3):
        with pytest.raises(Cut):
            train(corpus.manifest, corpus.store, tmp_path / "cut", config, cut_after(cut))
        assert (tmp_path / "cut" / LAST).is_file()
    train(corpus.manifest, corpus.store, tmp_path / "cut", config)
    assert not (tmp_path / "cut" / LAST).exists()
    assert same_artefacts(tmp_path / "cut", tmp_path / "whole")


def test_an_ensemble_that_was_cut_ends_with_the_same_bytes(
    corpus: Any, ensemble: FusionConfig, tmp_path: Path
) -> None:
    train(corpus.manifest, corpus.store, tmp_path / "whole", ensemble)
    for cut in (3, 2, 1):  # at the end of a stage, inside the next, at its last epoch
        with pytest.raises(Cut):
            train(corpus.manifest, corpus.store, tmp_path / "cut", ensemble, cut_after(cut))
    train(corpus.manifest, corpus.store, tmp_path / "cut", ensemble)
    assert same_artefacts(tmp_path / "cut", tmp_path / "whole")


def test_a_run_that_was_killed_is_resumed(corpus: Any, short: FusionConfig, tmp_path: Path) -> None:
    corpus.manifest.save(tmp_path / "manifest")
    (tmp_path / "config.json").write_text(short.model_dump_json())
    code = """
import json, os, signal, sys
from pathlib import Path
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.training.run import train
from m2hf.manifest import Manifest
folder, store = map(Path, sys.argv[1:])
def die(report):
    if report.epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
config = FusionConfig.model_validate(json.loads((folder / "config.json").read_text()))
train(Manifest.load(folder / "manifest"), store, folder / "run", config, die)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(corpus.store)],
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == -signal.SIGKILL
    train(corpus.manifest, corpus.store, tmp_path / "run", short)
    train(corpus.manifest, corpus.store, tmp_path / "whole", short)
    assert same_artefacts(tmp_path / "run", tmp_path / "whole")


def test_an_interrupted_run_with_another_config_is_not_resumed(
    corpus: Any, short: FusionConfig, tmp_path: Path
) -> None:
    with pytest.raises(Cut):
        train(corpus.manifest, corpus.store, tmp_path, short, cut_after(1))
    other = short.model_copy(update={"late": LateConfig(rule="sum")})
    with pytest.raises(MismatchError, match=r"last\.safetensors: an interrupted run with another"):
        train(corpus.manifest, corpus.store, tmp_path, other)


def test_a_learning_rate_that_diverges_names_step_and_level_and_keeps_the_best(
    corpus: Any, short: FusionConfig, tmp_path: Path
) -> None:
    largest = {"lr": 1e6, "scalar_lr_factor": 1e6, "weight_decay": 1e6, "warmup": 0.0}
    config = parse(FusionConfig, short.model_dump() | {"train": largest})
    with pytest.raises(Diverged, match=r"at step \d+, level \w+: .*kept epoch 0 in"):
        train(corpus.manifest, corpus.store, tmp_path, config)
    file = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, tmp_path))
    assert np.isfinite(file.scores["visual"]).all()
    assert not (tmp_path / LAST).exists()


def test_bf16_trains_and_scores_in_full_precision(
    corpus: Any, short: FusionConfig, tmp_path: Path
) -> None:
    half = short.model_copy(update={"precision": "bf16"})
    losses = []
    for name, config in (("half", half), ("full", short)):
        train(corpus.manifest, corpus.store, tmp_path / name, config)
        last = (tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1]
        losses.append(json.loads(last)["val_loss"])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    file = SimilarityFile.read(evaluate(corpus.manifest, corpus.store, tmp_path / "half"))
    visual = torch.from_numpy(np.array(file.scores["visual"]))
    assert not torch.equal(visual, visual.bfloat16().float())


ABOUT = {
    "version": 4,
    "run": "r",
    "stage": {
        "level": "", "epoch": 1, "step": 4, "best_epoch": 1, "best_result": [50.0, -1.5],
        "order": np.random.default_rng(0).bit_generator.state,
    },
    "finished": {"visual": {"trained": 2, "best": 1}},
    "log": "{}\n",
    "digest": "0" * 64,
}  # fmt: skip


@given(mutated_json(ABOUT))
@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_damage_to_the_header_is_an_error_of_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / LAST
    about = {"m2hf.progress": data.decode(errors="replace")}
    safetensors.torch.save_file({"stage/model/x": torch.zeros(1)}, path, metadata=about)
    with pytest.raises(UsageError, match="delete") as caught:
        Progress.load(path, "r")
    assert "\n" not in str(caught.value)


@given(st.integers(0, 1 << 30))
@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_flipped_bit_is_found(tmp_path: Path, at: int) -> None:
    path = tmp_path / LAST
    state = StageState({"model": {"x": torch.arange(6.0)}}, ABOUT["stage"])
    finished = {"visual": StageResult.of({"y": torch.ones(2)}, trained=2, best=1)}
    Progress(state, finished, "{}\n").save(path, "r")
    assert Progress.load(path, "r") is not None
    data = bytearray(path.read_bytes())
    data[at // 8 % len(data)] ^= 1 << at % 8
    path.write_bytes(data)
    with pytest.raises(UsageError, match="delete") as caught:
        Progress.load(path, "r")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop(next(k for k in tensors if "/model/" in k)),
        lambda tensors: tensors.update({"other": torch.zeros(1)}),
        lambda tensors: tensors.pop("stage/random/cpu"),
        lambda tensors: tensors.update({"stage/optimiser/x.y": torch.zeros(1)}),
    ],
    ids=["a weight is gone", "another name", "no generator", "no number"],
)
def test_tensors_of_another_run_are_one_line(
    corpus: Any, short: FusionConfig, tmp_path: Path, change: Any
) -> None:
    with pytest.raises(Cut):
        train(corpus.manifest, corpus.store, tmp_path, short, cut_after(1))
    path = tmp_path / LAST
    with safetensors.safe_open(path, framework="pt") as file:
        about = file.metadata()
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path, metadata=about)
    with pytest.raises(UsageError, match=r"last\.safetensors: .* delete it to") as caught:
        train(corpus.manifest, corpus.store, tmp_path, short)
    assert "\n" not in str(caught.value)
