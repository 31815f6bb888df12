"""`python -m benchmarks.scale.store ROOT N`: a manifest of N synthetic clips, and the store and
ledger that a whole run over them leaves, in the folder ROOT.

Shards and ledger are written by the code that a run writes them with; only the values, one short
row an item, are made up.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.scale.operations import HELD_OUT, NAMES, SETTINGS
from m2hf.config import read_recipe
from m2hf.errors import MediaError
from m2hf.features import Features
from m2hf.keys import fingerprint
from m2hf.ledger import LedgerWriter, TimeSpent
from m2hf.manifest import Card, Manifest, Row, Split, captions_of
from m2hf.pipelines.job import Job
from m2hf.shard import ShardItem, write_shard
from m2hf.shard_header import ShardHeader
from m2hf.streams import CAPTION

NAME = "scale"

_FAILS_FIRST = 100  # one clip of so many fails, and succeeds in the retry
_CLIPS_OF_A_PROCESS = 50_000  # that share a file of the ledger
_MEDIA_SHA256 = "0" * 64


def write(root: Path, clips: int) -> None:
    """Write root/manifest, root/media (empty: nothing is left to read), and root/store."""
    Manifest(Card(name=NAME, protocol="one_caption"), tuple(_rows(clips))).save(root / "manifest")
    (root / "media").mkdir()
    section = read_recipe(None, SETTINGS)["extract"]
    job = Job.prepare(root / "manifest", root / "media", root / "store", section, NAMES)
    job.layout.record(job.buckets)
    rng = np.random.default_rng(0)
    for bucket in range(job.buckets):
        for name in NAMES:
            _write(job, name, bucket, job.items(name, bucket), rng)
        captions = [caption.id for caption in captions_of(job.rows_by_bucket[bucket])]
        _write(job, CAPTION, bucket, captions, rng)
    _write_ledger(job)


def _rows(clips: int) -> Iterator[Row]:
    for n in range(clips):
        split: Split = "test" if n < HELD_OUT else "val" if n < 2 * HELD_OUT else "train"
        item = f"clip{n:08d}"
        caption = f"a person shows the camera what is in box number {n} of the shelf"
        yield Row(id=item, path=f"{n // 1000:05d}/{item}.mp4", split=split, captions=(caption,))


def _write(
    job: Job, name: str, bucket: int, items: Sequence[str], rng: np.random.Generator
) -> None:
    """The shard of one stream and bucket; the captions are as wide as the log-mel statistics."""
    extractor = job.extractor(NAMES[0] if name == CAPTION else name)
    header = ShardHeader(
        dataset=NAME,
        extractor=name,
        revision=extractor.revision,
        fingerprint=fingerprint({"synthetic": name}) if name == CAPTION else job.fingerprints[name],
        bucket=bucket,
        buckets=job.buckets,
        manifest=job.manifest.digest,
        config={} if name == CAPTION else dict(job.declared[name]),
        weights={},
        environment={},
        columns=extractor.columns,
    )
    values = rng.standard_normal((len(items), 1, extractor.width), dtype=np.float32)
    start_s, end_s = np.zeros(1), np.ones(1)
    written = [
        ShardItem(item, Features(value, start_s, end_s), _MEDIA_SHA256)
        for item, value in zip(items, values, strict=True)
    ]
    path = job.layout.shard(name, header.fingerprint, bucket, job.buckets)
    write_shard(path, header, written, extractor.dtype, extractor.width)


def _write_ledger(job: Job) -> None:
    streams, spent = [job.stream(name) for name in NAMES], TimeSpent(0.2134, 0.1912)
    for start in range(0, len(job.manifest.rows), _CLIPS_OF_A_PROCESS):
        writer = LedgerWriter(job.layout.ledger)
        for n, row in enumerate(job.manifest.rows[start : start + _CLIPS_OF_A_PROCESS]):
            writer.started(row.id, streams, "decode")
            if n % _FAILS_FIRST == 0:
                writer.failed(row.id, streams, "decode", MediaError("no frames"), 0.1, 1)
                writer.retry(row.id, streams)
                writer.started(row.id, streams, "decode")
            writer.decoded(row.id, 0.1172)
            for stream in streams:
                writer.started(row.id, [stream], "extract")
                writer.done(row.id, stream, "ok", spent)
        writer.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
