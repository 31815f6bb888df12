"""A run without training: an untrained checkpoint that compares what shares a space.

Each level is the cosine of the caption and the mean row of its stream, and their fusion is the
weighted sum that the recipe gives: a score depends on the query and the video alone.
"""

from pathlib import Path
from typing import cast

import torch

from m2hf.errors import ConfigError, UsageError
from m2hf.fuse.config import BalanceConfig, FusionConfig, LateConfig
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.late_fusion import AffineFusion
from m2hf.fuse.model.retriever import Retriever, build_model
from m2hf.fuse.run_folder import RunFolder
from m2hf.manifest import Manifest


def without_training(config: FusionConfig) -> FusionConfig:
    """`config` with strategy `zero_shot`, and of its levels those that need no training: without
    early fusion, of a stream that shares a space with the captions.

    Raises ConfigError where frames or captions are projected.
    """
    if projected := sorted({FRAMES, CAPTIONS} & set(config.project)):
        raise ConfigError(
            f"fuse.project has {' and '.join(projected)}, which nothing compares without training; "
            "zero-shot needs frames and captions of one space"
        )
    shared, trained = set(config.shared_roles), config.trained_levels
    kept = [
        name
        for name, level in trained.items()
        if level.fusion == "none" and {level.stream, level.query} <= shared
    ]
    if not kept:
        raise ConfigError(
            "no level of this recipe needs no training; zero-shot compares levels with fusion "
            '"none" whose stream is not in fuse.project, such as: --set '
            "fuse.levels.visual.enabled=true"
        )
    return config.only(*kept).model_copy(
        update={
            "strategy": "zero_shot",
            "late": LateConfig(rule="affine"),
            "balance": BalanceConfig(),
            "project": (),
        }
    )


def untrained(config: FusionConfig, store: FeatureStore) -> Retriever:
    """The retriever of a config of strategy `zero_shot`. Levels of words lack their statistics."""
    model = build_model(config, {role: info.width for role, info in store.info.items()})
    levels = config.active_levels.values()
    late = cast("AffineFusion", model.late)
    late.weigh(
        torch.tensor([level.weight for level in levels]),
        torch.tensor([level.centre for level in levels]),
    )
    return model


def write_untrained(
    manifest: Manifest, store_root: Path, run_dir: Path, config: FusionConfig
) -> None:
    """Write the zero-shot checkpoint of `config` into `run_dir`, for `evaluate` and search.

    Raises ConfigError as `without_training`, UsageError where the store lacks a
    stream or `run_dir` holds a trained run, MismatchError for streams that don't fit together.
    """
    chosen = without_training(config)
    path = RunFolder(run_dir).checkpoint
    if path.exists() and checkpoint.read_header(path).config.strategy != "zero_shot":
        raise UsageError(
            f"{path}: of a trained run, which --zero-shot would overwrite; give "
            "another folder to --out"
        )
    store = FeatureStore.open(store_root, manifest.card.name, chosen)
    run_dir.mkdir(parents=True, exist_ok=True)
    card = manifest.card.name
    header = checkpoint.CheckpointHeader(chosen, store.info, card, manifest.digest, epoch=0)
    checkpoint.save(path, untrained(chosen, store), header)
