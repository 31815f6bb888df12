"""Precomputed OCR and ASR features of the default toybox, except for its test split.

They are most of the work of extraction, so they ship with the package, as shards of one bucket
(made by `python -m benchmarks.toybox.pack`). Extraction then computes what is missing: OCR and ASR
of the test clips, and all other features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from m2hf.keys import group_by_bucket
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest
from m2hf.shard import Shard, ShardItem, write_shard

EXTRACTORS = ("ocr", "asr")
FOLDER = files(__package__) / "precomputed"


def copy_to_store(store: Path, manifest: Manifest) -> int:
    """Copy the precomputed features to a store; returns the number of clips.

    0 where `manifest` is not the one that they were extracted from, that is, for another size or
    seed. Existing shards of the store are kept.
    """
    layout = StoreLayout(store, manifest.card.name)
    buckets = layout.buckets(0, len(manifest.rows))
    copied: set[str] = set()
    for shard in _precomputed_shards():
        if shard.header.manifest != manifest.digest:
            return 0
        layout.record(buckets)
        items_by_bucket = group_by_bucket(shard.items(), buckets, lambda item: item.id)
        for bucket, items in items_by_bucket.items():
            path = layout.shard(shard.header.extractor, shard.header.fingerprint, bucket, buckets)
            if not path.exists():
                write_subset(path, shard, items, manifest, bucket, buckets)
        copied |= set(shard.ids)
    return len(copied)


def write_subset(
    path: Path,
    source: Shard,
    items: Sequence[ShardItem],
    manifest: Manifest,
    bucket: int,
    buckets: int,
) -> None:
    """Write `items` of `source` as the shard of one bucket, for clips of `manifest`."""
    header = replace(source.header, manifest=manifest.digest, bucket=bucket, buckets=buckets)
    write_shard(path, header, items, source.values.dtype.name, source.values.shape[1])


def _precomputed_shards() -> Iterator[Shard]:
    for name in EXTRACTORS:
        with as_file(FOLDER / f"{name}.h5") as path:
            yield Shard.open(path)
