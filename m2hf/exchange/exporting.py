"""Export features of a store for other tools, with their provenance.

The reverse of `m2hf.exchange.importing`, and like it it needs only the contract. Videos are read
one at a time, bucket by bucket, and the digest of each is verified before it is exported.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from m2hf import __version__
from m2hf.atomic import atomic_folder, atomic_text
from m2hf.errors import ShardError, UsageError
from m2hf.exchange.files import check_format, open_files
from m2hf.exchange.item import ExportedItem, ValueType
from m2hf.features import Status
from m2hf.keys import canonical_json, sha256_hex
from m2hf.layout import StoreLayout
from m2hf.ledger_view import LedgerView
from m2hf.manifest import Manifest, Row
from m2hf.packed_rows import RowsByBucket
from m2hf.shard import Shard
from m2hf.shard_header import ShardHeader
from m2hf.streams import StreamName

PROVENANCE = "provenance.json"
SCHEMA, VERSION = "m2hf.export", 1
NEVER = "not extracted"


@dataclass
class ExportedStream:
    """Report on one exported stream: its name in the store, what its features were made with,
    sha256 of its shards and of the exported items, width and type of the values, flags that every
    result made from them must repeat, and videos by outcome: EMPTY and missing ones with the
    reason."""

    stream: StreamName
    fingerprint: str
    revision: int
    config: Mapping[str, Any]
    weights: Mapping[str, str]
    columns: Sequence[str]
    manifests: Sequence[str]
    shards: str
    width: int
    dtype: str
    flags: Sequence[str]
    ok: int = 0
    empty: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    items: str = ""


def export_streams(
    manifest: Manifest, store: Path, names: Sequence[str], form: str, out: Path
) -> dict[str, ExportedStream]:
    """Write the streams called `names` of the manifest's videos to the new folder `out`, as `form`
    ("npz", "wds" or "arrow"); returns a report on each, by extractor.

    `out` is written atomically. Raises UsageError for an unknown stream or format or an existing
    folder, ShardError for an item that doesn't match its digest.
    """
    check_format(form)
    if not names:
        raise UsageError("nothing to export; give --stream NAME, such as --stream clip")
    layout = StoreLayout.open(store, manifest.card.name)
    ledger = LedgerView.read(layout.ledger)
    readers: dict[str, _StreamReader] = {}
    for name in names:
        reader = _StreamReader.open(layout, name, ledger)
        if reader.extractor in readers:
            raise UsageError(
                f"--stream {name}: {reader.extractor!r} is given twice; export them one at a time"
            )
        readers[reader.extractor] = reader
    buckets = layout.buckets(0, len(manifest.rows))
    rows_by_bucket = RowsByBucket(manifest.rows, buckets)
    with atomic_folder(out) as folder:
        kinds = {name: ValueType(s.report.width, s.report.dtype) for name, s in readers.items()}
        with open_files(form, folder, manifest.card.name, kinds) as files:
            for bucket in range(buckets):
                rows = rows_by_bucket[bucket]
                opened = {n: s.items(bucket, buckets, rows) for n, s in readers.items()}
                for row in rows:
                    files.add(row, {name: next(items) for name, items in opened.items()})
        made = {name: reader.finished() for name, reader in readers.items()}
        record = {
            "schema": SCHEMA,
            "version": VERSION,
            "m2hf": __version__,
            "format": form,
            "dataset": manifest.card.name,
            "manifest": manifest.digest,
            "videos": len(manifest.rows),
            "streams": {name: asdict(stream) for name, stream in made.items()},
        }
        atomic_text(folder / PROVENANCE, canonical_json(record) + "\n")
    return made


@dataclass(frozen=True, eq=False)
class _StreamReader:
    """Reads one stream; `report` and `digests` grow with each video."""

    layout: StoreLayout
    ledger: LedgerView
    report: ExportedStream
    digests: list[list[str]]

    @classmethod
    def open(cls, layout: StoreLayout, name: str, ledger: LedgerView) -> "_StreamReader":
        """Read the header of every shard; raises UsageError where there is none."""
        stream = layout.find_stream(name)
        headers: list[ShardHeader] = []
        width, dtype = 0, ""
        for path in layout.shards(stream):
            shard = Shard.open(path)
            headers.append(shard.header)
            if shard.header.of_captions:
                raise UsageError(
                    f"--stream {name}: a stream of captions; only streams of videos are exported"
                )
            if shard.header.fingerprint != headers[0].fingerprint:
                raise ShardError(f"{path}: its fingerprint differs from the stream's; move it away")
            width, dtype = shard.values.shape[1], shard.values.dtype.name
        if not headers:
            raise UsageError(f"{layout.folder / stream}: no shards; extract this stream first")
        first = headers[0]
        report = ExportedStream(
            stream=stream,
            fingerprint=first.fingerprint,
            revision=first.revision,
            config=first.config,
            weights=first.weights,
            columns=first.columns,
            manifests=sorted({header.manifest for header in headers}),
            shards=layout.digest(stream),
            width=width,
            dtype=dtype,
            flags=sorted({flag for header in headers for flag in header.flags}),
        )
        return cls(layout, ledger, report, [])

    @property
    def extractor(self) -> str:
        return self.report.stream.extractor

    def items(self, bucket: int, buckets: int, rows: Sequence[Row]) -> Iterator[ExportedItem]:
        """The features of each of `rows`, which are the rows of this bucket."""
        path = self.layout.shard(self.extractor, self.report.fingerprint, bucket, buckets)
        shard = Shard.open(path) if path.exists() else None
        where = {} if shard is None else {item: i for i, item in enumerate(shard.ids)}
        for row in rows:
            if shard is None or row.id not in where:
                self.report.missing[row.id] = why = self._why(row.id)
                yield ExportedItem(None, missing=why)
            else:
                yield self._item(shard, where[row.id])

    def finished(self) -> ExportedStream:
        """The report, complete once all items are read."""
        self.report.items = sha256_hex(canonical_json(sorted(self.digests)).encode())
        return self.report

    def _item(self, shard: Shard, i: int) -> ExportedItem:
        item, digest = shard.ids[i], shard.digests[i]
        stored = shard.item(i)
        self.digests.append([item, digest])
        if stored.features.status is Status.EMPTY:
            self.report.empty[item] = stored.features.reason
        else:
            self.report.ok += 1
        return ExportedItem(stored.features, digest)

    def _why(self, item: str) -> str:
        key = (item, self.report.stream)
        if key in self.ledger.quarantined:
            return f"quarantined: {self.ledger.quarantined[key]}"
        failure = self.ledger.failures.get(key)
        return NEVER if failure is None else f"{failure.error}: {failure.message}"
