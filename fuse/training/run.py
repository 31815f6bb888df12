"""A training run: one model end to end, or one a level and then an ensemble of them.

The late fusion is calibrated on the validation part at the end. A run that was killed goes on
from its last epoch and ends with the same weights (same device, same seed).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from m2hf.atomic import atomic_text
from m2hf.errors import UsageError
from m2hf.fuse import curves
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.devices import repeatable
from m2hf.fuse.distributed import ALONE, World
from m2hf.fuse.evaluation.score import score_gallery
from m2hf.fuse.features.gallery import Gallery
from m2hf.fuse.features.splits import TrainingSet, absent_videos, train_and_val
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.retriever import Ensemble, Retriever, build_model
from m2hf.fuse.training import progress
from m2hf.fuse.training.progress import Progress, prefixed
from m2hf.fuse.training.trainer import Diverged, EpochReport, OnEpoch, Trainer, recall_by_level
from m2hf.keys import canonical_json, sha256_hex
from m2hf.manifest import Caption, Manifest

__all__ = ["EpochReport", "TrainSummary", "train"]

CONFIG_NAME = "config.json"

_CALIBRATION = (2048, 1024)  # captions and videos; two numbers a level need no more


@dataclass(frozen=True)
class TrainSummary:
    """What came of a run: val_recall is T2V R@1 in percent of the kept weights after
    calibration; left_out counts training videos without frames or without captions; absent:
    videos of train and val that a stream has no entry for, by role; lost: how many of train were
    left out for that; flags are those of the features, by role. An ensemble's `epochs` are those
    of all its stages, its `best_epoch` the latest of them, and `stages` has (epochs, best epoch)
    of each."""

    checkpoint: Path
    epochs: int
    best_epoch: int
    train_videos: int
    train_captions: int
    val_videos: int
    left_out: int
    absent: dict[str, tuple[str, ...]]
    lost: int
    val_recall: dict[str, float]
    flags: dict[str, tuple[str, ...]]
    stages: dict[str, tuple[int, int]]


def train(
    manifest: Manifest,
    store_root: Path,
    run_dir: Path,
    config: FusionConfig,
    on_epoch: OnEpoch | None = None,
    world: World = ALONE,
) -> TrainSummary:
    """Train on the train split of `manifest`; write checkpoint.safetensors, config.json (the
    resolved config), metrics.jsonl (one line an epoch) and curves.png into `run_dir`. A run in
    progress there, last.safetensors, is gone on with. Of the processes of `world` all return the
    same, and the first writes.

    Raises UsageError where a stream or a split lacks what it needs, MismatchError for streams
    that don't belong together or a run in progress with another config, and Diverged, after
    writing the best weights so far, where the loss is no longer a number.
    """
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
    val = Gallery.of(val_rows, store, "val")
    with repeatable(config, world) as device:
        run = _Run(manifest, store, captions, val, config, replace(world, device=device), run_dir)
        try:
            run.fit(on_epoch)
        except Diverged as error:
            run.finish()
            raise Diverged(f"{error}; kept epoch {run.best_epoch} in {run.path}") from error
        recall = run.finish()
    return TrainSummary(
        checkpoint=run.path,
        epochs=sum(epochs for epochs, _ in run.stages.values()),
        best_epoch=run.best_epoch,
        train_videos=len(videos),
        train_captions=len(captions),
        val_videos=len(val_rows),
        left_out=len(train_rows) - len(videos) - chosen.lost,
        absent=absent_videos([row.id for row in (*train_rows, *val_rows)], store),
        lost=chosen.lost,
        val_recall=recall,
        flags={role: tuple(info.flags) for role, info in store.info.items() if info.flags},
        stages=run.stages,
    )


class _Run:
    """All stages of a run: one end to end, or one a level."""

    def __init__(
        self,
        manifest: Manifest,
        store: FeatureStore,
        captions: Sequence[Caption],
        val: Gallery,
        config: FusionConfig,
        world: World,
        folder: Path,
    ) -> None:
        self.manifest, self.store, self.captions, self.val = manifest, store, captions, val
        self.config, self.world, self.device, self.folder = config, world, world.device, folder
        self.path = folder / checkpoint.FILE_NAME
        self.stages: dict[str, tuple[int, int]] = {}
        self.weights: dict[str, Tensor] = {}  # of the finished stages, named as in the model
        self.lines = ""
        self.key = _key(manifest, store, config)
        self.progress = Progress.load(folder / progress.FILE_NAME, self.key)
        facts = self.progress.facts if self.progress else None
        world.check_alike([self.key, facts, [c.id for c in captions], val.query_ids, val.video_ids])

    @property
    def best_epoch(self) -> int:
        """The latest best epoch of all stages."""
        return max((best for _, best in self.stages.values()), default=0)

    def fit(self, on_epoch: OnEpoch | None) -> None:
        """Train each stage that is not done yet."""
        if self.world.leads:
            text = self.config.model_dump_json(indent=2) + "\n"
            atomic_text(self.folder / CONFIG_NAME, text)
        progress = self.progress
        if progress is not None:
            self.weights = progress.under("done.")
            self.lines = progress.facts["lines"]
            self.stages = {n: (e, b) for n, (e, b) in progress.facts["stages"].items()}
        alone = self.config.strategy == "ensemble"
        for stage in self.config.active_levels if alone else [""]:
            if stage in self.stages and (progress is None or progress.facts["stage"] != stage):
                continue
            torch.manual_seed(self.config.train.seed)  # a level is trained alike in any company
            config = self.config.only(stage) if alone else self.config
            trainer = Trainer(self.store, self.captions, self.val, config, self.world, stage)
            if progress is not None and progress.facts["stage"] == stage:
                trainer.restore(progress)
                progress = None
            self._fit(trainer, on_epoch)

    def finish(self) -> dict[str, float]:
        """Calibrate on the validation part and write what came of the run, which is then no
        longer in progress; returns R@1 by level."""
        widths = {role: info.width for role, info in self.store.info.items()}
        model = build_model(self.config, widths).to(self.device)
        model.load_state_dict(self.weights, strict=False)
        self._calibrate(model)
        scores = score_gallery(model, self.store, self.val, self.device)
        if self.world.leads:
            self._write(model)
        self.world.wait()  # an end, such as by Diverged, would end the one that writes
        return recall_by_level(model, scores, self.val)

    def _write(self, model: Retriever) -> None:
        header = checkpoint.CheckpointHeader(
            self.config,
            self.store.info,
            self.manifest.card.name,
            self.manifest.digest,
            self.best_epoch,
        )
        checkpoint.save(self.path, model, header)
        curves.draw(self.lines, self.folder / curves.FILE_NAME)
        (self.folder / progress.FILE_NAME).unlink(missing_ok=True)

    def _fit(self, trainer: Trainer, on_epoch: OnEpoch | None) -> None:
        try:
            while not trainer.done:
                report = trainer.advance()
                self.lines += report.line
                if self.world.leads:
                    self._keep(trainer)
                    atomic_text(self.folder / curves.LOG_NAME, self.lines)
                if on_epoch is not None:
                    on_epoch(report)
        finally:
            self._take(trainer)

    def _take(self, trainer: Trainer) -> None:
        prefix = f"members.{trainer.stage}." if trainer.stage else ""
        self.weights |= prefixed(prefix, trainer.weights)
        self.stages[trainer.stage] = (max(0, trainer.epoch), trainer.best_epoch)

    def _keep(self, trainer: Trainer) -> None:
        """Write what a killed run goes on from."""
        now = trainer.progress()
        facts = {**now.facts, "lines": self.lines, "stages": self.stages}
        tensors = {**now.tensors, **prefixed("done.", self.weights)}
        Progress(tensors, facts).save(self.folder / progress.FILE_NAME, self.key)

    def _calibrate(self, model: Retriever) -> None:
        """Fit the late fusion on the captions of the validation part."""
        scores = score_gallery(model, self.store, self.val, self.device)
        if isinstance(model, Ensemble):
            model.mean_temperature(torch.from_numpy(scores.valid_LV.any(axis=1)))
        queries, videos = self.val.sample(scores.asked_Q, *_CALIBRATION)
        levels = torch.from_numpy(scores.levels_LQV[:, queries][:, :, videos]).to(self.device)
        valid = torch.from_numpy(scores.valid_LV[:, videos]).to(self.device)
        answers = self.val.video_of_query[queries]
        positives = torch.from_numpy(answers[:, None] == videos).to(self.device)
        model.late.calibrate(levels, valid, positives, model.contrast)


def _key(manifest: Manifest, store: FeatureStore, config: FusionConfig) -> str:
    """Digest of what makes two runs the same."""
    about = {
        "config": json.loads(config.model_dump_json()),
        "manifest": manifest.digest,
        "streams": {role: info.fingerprint for role, info in store.info.items()},
    }
    return sha256_hex(canonical_json(about).encode())
