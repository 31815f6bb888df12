"""What OCR read and speech recognition heard in the default toybox, but for its test split.

They are most of the work of extraction, so they come along, as shards of one bucket
(`python -m benchmarks.toybox.pack` makes them). Whoever extracts then does the rest: these two
of the test clips, and everything else of all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from m2hf.keys import bucket_of
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest
from m2hf.shard import Shard, ShardItem, write_shard

EXTRACTORS = ("ocr", "asr")
FOLDER = files(__package__) / "precomputed"


def place(store: Path, manifest: Manifest) -> int:
    """Begin a store with what comes along; returns of how many clips that is.

    0 where `manifest` is not the one that it was extracted from, of another size or seed. What
    the store has already stays.
    """
    layout = StoreLayout(store, manifest.card.name)
    buckets = layout.buckets(0, len(manifest.rows))
    placed: set[str] = set()
    for shard in _packed():
        if shard.header.manifest != manifest.digest:
            return 0
        by_bucket: dict[int, list[ShardItem]] = {}
        for item in shard.items():
            by_bucket.setdefault(bucket_of(item.id, buckets), []).append(item)
        layout.record(buckets)
        for bucket, items in by_bucket.items():
            path = layout.shard(shard.header.extractor, shard.header.fingerprint, bucket, buckets)
            if not path.exists():
                write(path, shard, items, manifest, bucket, buckets)
        placed |= set(shard.ids)
    return len(placed)


def write(
    path: Path,
    of: Shard,
    items: Sequence[ShardItem],
    manifest: Manifest,
    bucket: int,
    buckets: int,
) -> None:
    """A shard of some clips of `manifest`, made as `of` was."""
    header = replace(of.header, manifest=manifest.digest, bucket=bucket, buckets=buckets)
    write_shard(path, header, items, of.values.dtype.name, of.values.shape[1])


def _packed() -> Iterator[Shard]:
    for name in EXTRACTORS:
        with as_file(FOLDER / f"{name}.h5") as path:
            yield Shard.open(path)
