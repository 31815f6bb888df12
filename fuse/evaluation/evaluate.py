"""Score a split with a trained checkpoint and write the similarity file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from m2hf.errors import MismatchError, UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.devices import repeatable
from m2hf.fuse.distributed import require_single_process
from m2hf.fuse.evaluation.score import Matrix, Target, fuse_levels, score_levels
from m2hf.fuse.features.gallery import Gallery, querybank, require_captions
from m2hf.fuse.features.store import FeatureStore
from m2hf.fuse.level_table import LATE_FUSION
from m2hf.fuse.model import checkpoint
from m2hf.fuse.model.checkpoint import CheckpointHeader
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.baselines import Baselines
from m2hf.fuse.scores.late_rules import TRAINED
from m2hf.fuse.scores.pooled import PooledSplit
from m2hf.fuse.scores.similarity_file import SimilarityDraft
from m2hf.fuse.scores.similarity_header import SimilarityHeader
from m2hf.keys import sha256_file
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest, Split
from m2hf.shard import Shard

# Config that the weights of a checkpoint depend on, in addition to its levels.
_BUILT = ("project", "model", "scoring", "completion", "strategy")


def evaluate(
    manifest: Manifest,
    store_root: Path,
    run_dir: Path,
    config: FusionConfig | None = None,
    split: Split = "test",
    with_baselines: bool = False,
    on_remark: Callable[[str], None] = lambda _: None,
    out: Path | None = None,
) -> Path:
    """Score every caption of `split` against all its videos with the checkpoint in `run_dir`;
    returns the path of the similarity file: `out`, or run_dir/similarity.h5.

    config: overrides streams, late, eval, device and threads of the trained config; what the
    weights depend on (levels, project, model, scoring, completion, strategy) must be as trained.
    with_baselines: also score zero-shot and ridge regression (`m2hf.fuse.scores.baselines`), as
    far as the store allows; on_remark is told what is left out, and why.
    Raises MismatchError where checkpoint, config and store don't belong together, UsageError
    where the split lacks videos or caption features, where the memory given is too little, and
    where several processes were started, ShardError where an item that is scored is damaged.
    After a failure an earlier file is unchanged.
    """
    require_single_process("eval")
    require_captions(manifest.split(split), f"split {split}")
    folder = RunFolder(run_dir)
    path, similarity = folder.checkpoint, out or folder.similarity
    config = resolve(path, checkpoint.read_header(path), config)
    store = FeatureStore.open(store_root, manifest.card.name, config)
    model, header = checkpoint.load(path, store)
    model.config = config
    gallery = Gallery.of(manifest.split(split), store, split)
    bank_ids = _bank(manifest, store, config, split)
    for role in store.video_roles:
        store[role].verify(gallery.video_ids)
    for role in store.query_roles:
        store[role].verify([*gallery.query_ids, *bank_ids])
    declared = manifest.card.splits.get(split)
    about = SimilarityHeader(
        dataset=manifest.card.name,
        benchmark=manifest.card.benchmark,
        split=split,
        manifest=manifest.digest,
        checkpoint=sha256_file(path),
        trained_on=header.dataset,
        streams=_streams(store, gallery, StoreLayout(store_root, manifest.card.name)),
        # Not recorded: it changes no bit of the scores.
        config=config.model_dump(mode="json", exclude={"eval": {"memory_mb"}}),
        flags=flags_of(store, header),
        missing=gallery.missing(store),
        declared=declared.model_dump() if declared else {},
        query_ids=gallery.query_ids,
        video_ids=gallery.video_ids,
        video_of_query=gallery.video_of_query,
        present={role: store[role].present(gallery.video_ids) for role in store.video_roles},
    )
    levels = model.level_names
    banks = dict.fromkeys([*levels, LATE_FUSION], len(bank_ids)) if bank_ids else {}
    closed = Baselines.of(manifest, store, config, on_remark) if with_baselines else None
    names = closed.names if closed is not None else []
    with (
        SimilarityDraft.open(similarity, about, levels, banks, names) as draft,
        repeatable(config) as device,
    ):
        model.to(device)
        targets = [Target(about.query_ids, *_matrices(draft.scores, levels))]
        if bank_ids:
            targets.append(Target(bank_ids, *_matrices(draft.bank, levels)))
        valid_LV = score_levels(model, store, targets, about.video_ids, device)
        for target in targets:
            fuse_levels(model, store, target, valid_LV, model.late.calibration())
        for name, valid_V in zip(levels, valid_LV, strict=True):
            draft.write_mask(name, valid_V)
        if closed is not None and names:
            for name, baseline in closed.score(PooledSplit.of(gallery, store)):
                draft.write_baseline(name, baseline)
    return similarity


def _matrices(place: Callable[[str], Matrix], levels: Sequence[str]) -> tuple[list[Matrix], Matrix]:
    return [place(name) for name in levels], place(LATE_FUSION)


def _bank(
    manifest: Manifest, store: FeatureStore, config: FusionConfig, split: Split
) -> tuple[str, ...]:
    """Captions of the querybank; none of them is a query of the gallery."""
    if config.eval.bank and split == "train":
        raise UsageError(
            f"fuse.eval.bank={config.eval.bank}: the querybank is of training captions, which are "
            "the queries of --split train; set it to 0"
        )
    return querybank(manifest.split("train"), store, config.eval.bank)


def resolve(path: Path, header: CheckpointHeader, given: FusionConfig | None) -> FusionConfig:
    """The trained config with what `given` sets explicitly of how to run.

    path: of the checkpoint, for the message. Raises MismatchError where `given` changes what the
    weights depend on.
    """
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
                f"{path}: trained with another fuse.{section} than the config gives; "
                f"leave fuse.{section} out of it, or train again"
            )
    rule = given.late.rule
    if rule in TRAINED and rule not in header.fitted and "late" in named:
        raise MismatchError(
            f"{path}: of a version without the late rule {rule}, which has to be fitted in "
            f"training; set fuse.late.rule={header.fitted[0]}, or train again"
        )
    run = named & {"streams", "late", "eval", "device", "threads"}
    return trained.model_copy(update={name: getattr(given, name) for name in run})


def _streams(
    store: FeatureStore, gallery: Gallery, layout: StoreLayout
) -> dict[str, dict[str, Any]]:
    used = {}
    for role, info in store.info.items():
        ids = gallery.query_ids if role in store.query_roles else gallery.video_ids
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


def flags_of(store: FeatureStore, header: CheckpointHeader) -> dict[str, list[str]]:
    """Flags of the features that were scored and of those that were trained on, by role."""
    flags = {
        role: sorted({*info.flags, *header.streams[role].flags})
        for role, info in store.info.items()
    }
    return {role: found for role, found in flags.items() if found}
