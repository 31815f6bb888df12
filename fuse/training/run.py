"""A training run: one stage with all levels end to end, or a stage a level and their ensemble.

At the end late fusion is calibrated on the validation part. A run that was interrupted is resumed
from its last epoch and ends with the same weights (same device, same seed).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from m2hf.atomic import atomic_text
from m2hf.errors import UsageError
from m2hf.fuse import curves
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.devices import repeatable
from m2hf.fuse.distributed import SINGLE_PROCESS, ProcessGroup
from m2hf.fuse.evaluation.score import score_gallery
from m2hf.fuse.features.gallery import Gallery, require_captions
from m2hf.fuse.features.splits import TrainingSet, absent_videos, train_and_val
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.calibration import calibrate
from m2hf.fuse.model.retriever import Ensemble, Retriever, build_model
from m2hf.fuse.model.word_index import fitted
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.baselines import Baselines
from m2hf.fuse.training.epoch import EpochReport, OnEpoch
from m2hf.fuse.training.progress import Progress
from m2hf.fuse.training.stage import Stage, StageEpochs, StageResult, Tensors
from m2hf.fuse.training.trainer import Diverged, Trainer, TrainingData, recall_by_level
from m2hf.keys import canonical_json, sha256_hex
from m2hf.manifest import Manifest

__all__ = ["EpochReport", "TrainSummary", "run_key", "train"]

_CALIBRATION = (2048, 1024)  # captions and videos; two numbers a level need no more


@dataclass(frozen=True)
class TrainSummary:
    """The result of a run."""

    checkpoint: Path
    epochs: int
    """Trained in all stages."""
    best_epoch: int
    """The latest best epoch of all stages."""
    train_videos: int
    train_captions: int
    val_videos: int
    left_out: int
    """Training videos without frames or without captions."""
    absent: dict[str, tuple[str, ...]]
    """Videos of train and val that a stream has no entry for, by role."""
    lost: int
    """Training videos left out because a stream has no entry for them."""
    val_recall: dict[str, float]
    """T2V R@1 in percent of the kept weights after calibration, by level and late fusion."""
    flags: dict[str, tuple[str, ...]]
    """Of the features, by role."""
    stages: dict[str, StageEpochs]
    """By level of an ensemble; "" end to end."""
    baselines: dict[str, float]
    """Of the same validation part: T2V R@1 in percent by name; empty if not asked for."""


def train(
    manifest: Manifest,
    store_root: Path,
    run_dir: Path,
    config: FusionConfig,
    on_epoch: OnEpoch | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
    with_baselines: bool = False,
    overwrite: bool = False,
) -> TrainSummary:
    """Train on the train split of `manifest` and write checkpoint, config, log and curves into
    `run_dir` (see `RunFolder`). An interrupted run there is resumed. All processes of `group`
    return the same summary; the main process writes. with_baselines: also find the validation
    recall of zero-shot and ridge regression. overwrite: train anew where a finished run is there.

    Raises UsageError for a folder with a finished run unless `overwrite`, and where a stream or a
    split lacks what training needs, MismatchError for streams that don't belong together or an
    interrupted run with another config, and Diverged, after writing the best weights so far, where
    a loss is not finite.
    """
    if config.strategy == "zero_shot":
        raise UsageError(
            "fuse.strategy=zero_shot has nothing to train; score it with `m2hf eval --zero-shot "
            "--out DIR`, or set fuse.strategy to end_to_end or ensemble"
        )
    folder = RunFolder(run_dir)
    if folder.finished and not overwrite:
        raise UsageError(
            f"{run_dir}: holds a finished run, which is not overwritten; name another --run, or "
            "give --overwrite to train anew"
        )
    require_captions(manifest.rows, f"manifest {manifest.card.name}")
    store = FeatureStore.open(store_root, manifest.card.name, config)
    train_rows, val_rows = train_and_val(manifest, config.train.val_fraction)
    chosen = TrainingSet.of(train_rows, store, config)
    captions = chosen.captions
    videos = {caption.video for caption in captions}
    if len(videos) < 2:
        raise UsageError(
            f"split train: {len(videos)} of its {len(train_rows)} videos have frames and a "
            "caption in the store, and training needs two; extract `clip` and `caption` first"
        )
    data = TrainingData(store, captions, Gallery.of(val_rows, store, "val"))
    with repeatable(config, group) as device:
        trainer = Trainer(data, replace(group, device=device))
        run = _Run(manifest, config, trainer, folder)
        try:
            run.fit(on_epoch)
        except Diverged as error:
            run.finish()
            kept = f"kept epoch {run.best_epoch} in {run.folder.checkpoint}"
            raise Diverged(f"{error}; {kept}") from error
        recall = run.finish()
    return TrainSummary(
        checkpoint=run.folder.checkpoint,
        epochs=sum(result.epochs.trained for result in run.results.values()),
        best_epoch=run.best_epoch,
        train_videos=len(videos),
        train_captions=len(captions),
        val_videos=len(val_rows),
        left_out=len(train_rows) - len(videos) - chosen.lost,
        absent=absent_videos([*train_rows.ids(), *val_rows.ids()], store),
        lost=chosen.lost,
        val_recall=recall,
        flags={role: tuple(info.flags) for role, info in store.info.items() if info.flags},
        stages={level: result.epochs for level, result in run.results.items()},
        baselines=run.baseline_recalls() if with_baselines else {},
    )


class _Run:
    """The stages of a run; results: of the stages that stopped, by level."""

    def __init__(
        self, manifest: Manifest, config: FusionConfig, trainer: Trainer, folder: RunFolder
    ) -> None:
        self.manifest, self.config, self.trainer, self.folder = manifest, config, trainer, folder
        self.data, self.group = trainer.data, trainer.group
        self.key = run_key(manifest, self.data.store, config)
        progress = Progress.load(folder.progress, self.key)
        captions, val = [c.id for c in self.data.captions], self.data.val
        state = progress.stage.numbers if progress else None
        self.group.check_equal([self.key, state, captions, val.query_ids, val.video_ids])
        self.results: dict[str, StageResult] = dict(progress.finished) if progress else {}
        self.log = progress.log if progress else ""
        self.interrupted = progress

    @property
    def best_epoch(self) -> int:
        """The latest best epoch of all stages."""
        return max((result.epochs.best for result in self.results.values()), default=0)

    @property
    def levels(self) -> list[str]:
        """The level of each stage; "" end to end."""
        return list(self.config.trained_levels) if self.config.strategy == "ensemble" else [""]

    def fit(self, on_epoch: OnEpoch | None) -> None:
        """Train each stage that is not finished."""
        if self.group.is_main:
            atomic_text(self.folder.config, self.config.model_dump_json(indent=2) + "\n")
        for level in self.levels:
            if level in self.results:
                continue
            stage = Stage(self.config, self.data.widths, self.group.device, level)
            if self.interrupted is not None and self.interrupted.stage.level == level:
                self.interrupted.resume(stage, self.folder.progress)
            try:
                self._train(stage, on_epoch)
            finally:
                self.results[level] = stage.result

    def finish(self) -> dict[str, float]:
        """Calibrate on the validation part and write the artefacts of the run, which is then
        complete; returns validation R@1 in percent by level."""
        model = build_model(self.config, self.data.widths).to(self.group.device)
        for level, network in zip(self.levels, model.networks(), strict=True):
            if level in self.results:
                network.load_state_dict(_without_late(self.results[level].weights), strict=False)
        videos = list(dict.fromkeys(caption.video for caption in self.data.captions))
        model.words = fitted(self.config, self.data.store, videos)
        self._calibrate(model)
        scores = score_gallery(model, self.data.store, self.data.val, self.group.device)
        recall = recall_by_level(model, scores, self.data.val)
        if self.group.is_main:
            self._write(model, recall)
        self.group.barrier()  # a process that exits now, as by Diverged, would end the writer
        return recall

    def baseline_recalls(self) -> dict[str, float]:
        """Validation R@1 in percent of each baseline, computed by the main process."""
        found = Baselines(self.config, self.data.regressions)
        recalls = found.val_recalls() if self.group.is_main else dict.fromkeys(found.names, 0.0)
        return dict(zip(recalls, self.group.broadcast_numbers(list(recalls.values())), strict=True))

    def _train(self, stage: Stage, on_epoch: OnEpoch | None) -> None:
        while not stage.done:
            report = self.trainer.advance(stage)
            self.log += report.line
            if self.group.is_main:
                progress = Progress(stage.state(), self.results, self.log)
                progress.save(self.folder.progress, self.key)
                atomic_text(self.folder.log, self.log)
            if on_epoch is not None:
                on_epoch(report)

    def _write(self, model: Retriever, recall: Mapping[str, float]) -> None:
        header = checkpoint.CheckpointHeader(
            self.config,
            self.data.store.info,
            self.manifest.card.name,
            self.manifest.digest,
            self.best_epoch,
            words=model.words,
        )
        val = self.data.val
        counts = {"queries": len(val.query_ids), "videos": len(val.video_ids)}
        about = {"R@1": dict(recall), **counts, "epoch": self.best_epoch}
        atomic_text(self.folder.validation, json.dumps(about, indent=2) + "\n")
        checkpoint.save(self.folder.checkpoint, model, header)
        curves.draw(self.log, self.folder.curves)
        self.folder.progress.unlink(missing_ok=True)

    def _calibrate(self, model: Retriever) -> None:
        """Fit each trained late rule on the captions of the validation part, so that another one
        may be chosen later."""
        val, device = self.data.val, self.group.device
        scores = score_gallery(model, self.data.store, val, device)
        if isinstance(model, Ensemble):
            trained_LV = scores.valid_LV[: len(self.levels)]
            model.mean_temperature(torch.from_numpy(trained_LV.any(axis=1)))
        queries, videos = val.sample(scores.present_Q, *_CALIBRATION)
        levels = torch.from_numpy(scores.levels_LQV[:, queries][:, :, videos]).to(device)
        valid = torch.from_numpy(scores.valid_LV[:, videos]).to(device)
        truth = val.video_of_query[queries]
        positives = torch.from_numpy(truth[:, None] == videos).to(device)
        for late in model.trained_rules:
            calibrate(late, levels, valid, positives, model.contrast)


def _without_late(weights: Tensors) -> dict[str, Tensor]:
    """The weights of a stage without its late fusion, which is of the trained levels alone; that
    of all levels is fitted at the end."""
    return {name: x for name, x in weights.items() if not name.startswith("late_fusions.")}


def run_key(manifest: Manifest, store: FeatureStore, config: FusionConfig) -> str:
    """Digest of what must be equal for a run to be resumed: config, manifest, and the fingerprints
    of the streams."""
    about = {
        "config": json.loads(config.model_dump_json()),
        "manifest": manifest.digest,
        "streams": {role: info.fingerprint for role, info in store.info.items()},
    }
    return sha256_hex(canonical_json(about).encode())
