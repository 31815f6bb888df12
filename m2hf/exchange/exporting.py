"""Features of a store for other tools, with where they came from.

The way back of `m2hf.exchange.importing`: it needs nothing but the contract. Videos are read one
at a time, bucket by bucket, and the digest of each is checked before it is exported.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from m2hf import __version__
from m2hf.atomic import atomic_folder, atomic_text
from m2hf.errors import ShardError, UsageError
from m2hf.exchange.files import check_format, open_files
from m2hf.exchange.importing import CAPTIONS
from m2hf.exchange.item import Exported, ValueType
from m2hf.features import Status
from m2hf.keys import canonical_json, group_by_bucket, sha256_hex
from m2hf.layout import StoreLayout
from m2hf.ledger import LedgerView
from m2hf.manifest import Manifest, Row
from m2hf.shard import Shard, ShardHeader

PROVENANCE = "provenance.json"
SCHEMA, VERSION = "m2hf.export", 1
NEVER = "not extracted"


@dataclass
class ExportedStream:
    """What became of one stream: its name in the store, what its features were made with, sha256
    of its shards and of the items exported, width and type of the values, flags that whatever is
    made of them must repeat, and videos by outcome: EMPTY and missing ones with the reason."""

    stream: str
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
    ("npz", "wds" or "arrow"); returns what became of each, by extractor.

    `out` appears whole or not at all. Raises UsageError for a stream, format or folder that can't
    be, ShardError for an item that doesn't match its digest.
    """
    check_format(form)
    if not names:
        raise UsageError("nothing to export; give --stream NAME, such as --stream clip")
    layout = StoreLayout.open(store, manifest.card.name)
    ledger = LedgerView.read(layout.ledger)
    sources: dict[str, _Source] = {}
    for name in names:
        source = _Source.open(layout, name, ledger)
        if source.extractor in sources:
            raise UsageError(
                f"--stream {name}: {source.extractor!r} is given twice; export them apart"
            )
        sources[source.extractor] = source
    buckets = layout.buckets(0, len(manifest.rows))
    by_id = sorted(manifest.rows, key=lambda row: row.id)
    rows_by_bucket = group_by_bucket(by_id, buckets, lambda row: row.id)
    with atomic_folder(out) as folder:
        kinds = {name: ValueType(s.told.width, s.told.dtype) for name, s in sources.items()}
        with open_files(form, folder, manifest.card.name, kinds) as files:
            for bucket, rows in sorted(rows_by_bucket.items()):
                opened = {n: s.items(bucket, buckets, rows) for n, s in sources.items()}
                for row in rows:
                    files.add(row, {name: next(items) for name, items in opened.items()})
        made = {name: source.made() for name, source in sources.items()}
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
class _Source:
    """One stream while it is read: `told` and `digests` grow with each video."""

    layout: StoreLayout
    ledger: LedgerView
    told: ExportedStream
    digests: list[list[str]]

    @classmethod
    def open(cls, layout: StoreLayout, name: str, ledger: LedgerView) -> "_Source":
        """Look at every shard once; raises UsageError where there is none."""
        stream = layout.find_stream(name)
        if stream.partition("@")[0] == CAPTIONS:
            raise UsageError(
                f"--stream {name}: a stream of captions, not of videos; only those are exported"
            )
        headers: list[ShardHeader] = []
        width, dtype = 0, ""
        for path in layout.shards(stream):
            shard = Shard.open(path)
            headers.append(shard.header)
            if shard.header.fingerprint != headers[0].fingerprint:
                raise ShardError(f"{path}: of another fingerprint than the stream; move it away")
            width, dtype = shard.values.shape[1], shard.values.dtype.name
        if not headers:
            raise UsageError(f"{layout.folder / stream}: no shards; extract this stream first")
        first = headers[0]
        told = ExportedStream(
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
        return cls(layout, ledger, told, [])

    @property
    def extractor(self) -> str:
        return self.told.stream.partition("@")[0]

    def items(self, bucket: int, buckets: int, rows: Sequence[Row]) -> Iterator[Exported]:
        """What there is of each of `rows`, which are of this bucket."""
        path = self.layout.shard(self.extractor, self.told.fingerprint, bucket, buckets)
        shard = Shard.open(path) if path.exists() else None
        where = {} if shard is None else {item: i for i, item in enumerate(shard.ids)}
        for row in rows:
            if shard is None or row.id not in where:
                self.told.missing[row.id] = why = self._why(row.id)
                yield Exported(None, missing=why)
            else:
                yield self._item(shard, where[row.id])

    def made(self) -> ExportedStream:
        """What became of the stream, when all was read."""
        self.told.items = sha256_hex(canonical_json(sorted(self.digests)).encode())
        return self.told

    def _item(self, shard: Shard, i: int) -> Exported:
        item, digest = shard.ids[i], shard.digests[i]
        stored = shard.intact_item(i)
        self.digests.append([item, digest])
        if stored.features.status is Status.EMPTY:
            self.told.empty[item] = stored.features.reason
        else:
            self.told.ok += 1
        return Exported(stored.features, digest)

    def _why(self, item: str) -> str:
        key = (item, self.told.stream)
        if key in self.ledger.quarantined:
            return f"quarantined: {self.ledger.quarantined[key]}"
        failure = self.ledger.failures.get(key)
        return NEVER if failure is None else f"{failure.error}: {failure.message}"
