"""Score a split with a trained checkpoint and write the similarity file."""

from pathlib import Path
from typing import Any

from m2hf.errors import MismatchError
from m2hf.fuse import checkpoint
from m2hf.fuse.checkpoint import CheckpointHeader
from m2hf.fuse.config import CAPTIONS, LATE_FUSION, FusionConfig
from m2hf.fuse.devices import repeatable
from m2hf.fuse.gallery import Gallery, score_gallery
from m2hf.fuse.similarity import FILE_NAME, SimilarityFile
from m2hf.fuse.store import FeatureStore
from m2hf.keys import sha256_file
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest, Split
from m2hf.shard import Shard

# What a checkpoint's weights depend on, beside its levels.
_BUILT = ("project", "model", "scoring", "completion", "strategy")


def evaluate(
    manifest: Manifest,
    store_root: Path,
    run_dir: Path,
    config: FusionConfig | None = None,
    split: Split = "test",
) -> Path:
    """Score every caption of `split` against all its videos with the checkpoint in `run_dir`;
    returns the path of the similarity file, run_dir/similarity.h5.

    config: what it sets of streams, late, device and threads holds for this run; what the
    weights depend on (levels, project, model, scoring, completion, strategy) must be as trained.
    Raises MismatchError where checkpoint, config and store don't belong together, UsageError
    where the split lacks videos or caption features.
    """
    path = run_dir / checkpoint.FILE_NAME
    config = _resolve(path, checkpoint.read_header(path), config)
    store = FeatureStore.open(store_root, manifest.card.name, config)
    model, header = checkpoint.load(path, store)
    model.late_rule = config.late.rule
    gallery = Gallery.of(manifest.split(split), store, split)
    with repeatable(config) as device:
        scores = score_gallery(model.to(device), store, gallery, device)
    names = model.level_names
    declared = manifest.card.splits.get(split)
    SimilarityFile(
        dataset=manifest.card.name,
        benchmark=manifest.card.benchmark,
        split=split,
        manifest=manifest.digest,
        checkpoint=sha256_file(path),
        trained_on=header.dataset,
        streams=_streams(store, gallery, StoreLayout(store_root, manifest.card.name)),
        config=config.model_dump(mode="json"),
        flags=_flags(store, header),
        missing=gallery.missing(store),
        declared=declared.model_dump() if declared else {},
        query_ids=gallery.query_ids,
        video_ids=gallery.video_ids,
        video_of_query=gallery.video_of_query,
        scores=dict(zip(names, scores.levels_LQV, strict=True)) | {LATE_FUSION: scores.fused_QV},
        masks=dict(zip(names, scores.valid_LV, strict=True)),
        present={role: store[role].present(gallery.video_ids) for role in store.video_roles},
    ).write(run_dir / FILE_NAME)
    return run_dir / FILE_NAME


def _resolve(path: Path, header: CheckpointHeader, given: FusionConfig | None) -> FusionConfig:
    """The trained config, with what `given` itself sets (not by default) of where to run."""
    trained = header.config
    if given is None:
        return trained
    named = given.model_fields_set
    differs = {
        "levels": given.active_levels != trained.active_levels,
        **{name: getattr(given, name) != getattr(trained, name) for name in _BUILT},
    }
    for section, other in differs.items():
        if other and section in named:
            raise MismatchError(
                f"{path}: trained with other fuse.{section} than the config gives; "
                f"leave fuse.{section} out of it, or train again"
            )
    run = named & {"streams", "late", "device", "threads"}
    return trained.model_copy(update={name: getattr(given, name) for name in run})


def _streams(
    store: FeatureStore, gallery: Gallery, layout: StoreLayout
) -> dict[str, dict[str, Any]]:
    used = {}
    for role, info in store.info.items():
        ids = gallery.query_ids if role == CAPTIONS else gallery.video_ids
        header = Shard.open(next(layout.shards(info.name))).header
        used[role] = {
            "stream": info.name,
            "fingerprint": info.fingerprint,
            "digest": store[role].digest(ids),
            "shards": layout.digest(info.name),
            "extractor": header.extractor,
            "revision": header.revision,
            "config": dict(header.config),
            "weights": dict(header.weights),
        }
    return used


def _flags(store: FeatureStore, header: CheckpointHeader) -> dict[str, list[str]]:
    """Flags of what was scored and of what the model was trained on, by role."""
    flags = {
        role: sorted({*info.flags, *header.streams[role].flags})
        for role, info in store.info.items()
    }
    return {role: found for role, found in flags.items() if found}
