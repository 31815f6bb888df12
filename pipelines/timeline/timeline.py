"""The features of one video in a store, and why others are missing: from shards and ledger."""

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from m2hf.errors import ShardError, UsageError
from m2hf.extract import registry
from m2hf.keys import bucket_of
from m2hf.layout import StoreLayout
from m2hf.ledger_view import Key, LedgerView
from m2hf.manifest import Row, captions_of
from m2hf.pipelines.timeline.entry import EntryOutcome, StreamEntry
from m2hf.shard import Shard
from m2hf.streams import CAPTION, CLIP, StreamName, extractor_of

NO_STREAM = "the store has no such stream"


@dataclass(frozen=True, eq=False)
class Timeline:
    """One video: its entries in extraction order, and those of its captions. row: its row in the
    manifest, where one was given."""

    dataset: str
    id: str
    row: Row | None
    entries: tuple[StreamEntry, ...]
    captions: tuple[StreamEntry, ...]

    @classmethod
    def read(
        cls, layout: StoreLayout, video: str, row: Row | None, known: Iterable[str]
    ) -> "Timeline":
        """Read the entries of `video`; known: valid ids in addition to those in the store.

        Raises UsageError, naming similar ids, where `video` is in neither.
        """
        ledger = LedgerView.read(layout.ledger)
        bucket = bucket_of(video, buckets := layout.buckets(0, 0))
        reasons = {**_failures(ledger), **ledger.quarantined}
        caption_id = re.compile(rf"{re.escape(video)}#\d+")
        entries: list[StreamEntry] = []
        captions: list[StreamEntry] = []
        in_ledger = {
            StreamName(stream)
            for item, stream in reasons
            if item == video or caption_id.fullmatch(item)
        }
        for stream in sorted({*layout.streams(), *in_ledger}, key=_extraction_order):
            shard = _BucketShard.open(layout, stream, bucket, buckets)
            failed = {item for item, of in reasons if of == stream and caption_id.fullmatch(item)}
            if not _of_captions(layout, stream, shard) and not failed:
                entries.append(shard.entry(stream, video, ledger, reasons))
                continue
            items = {i for i in shard.ids if caption_id.fullmatch(i)}
            items |= failed
            if row is not None:
                items = {caption.id for caption in captions_of([row])}
            order = sorted(items, key=lambda item: int(item.rpartition("#")[2]))
            captions += [shard.entry(stream, item, ledger, reasons) for item in order]
        if row is None and not captions and all(e.outcome is EntryOutcome.MISSING for e in entries):
            raise UsageError(_unknown(layout, video, known))
        present = {entry.extractor for entry in entries}
        absent = [n for n in registry.names() if n not in present and n != CAPTION]
        entries += [StreamEntry(name, video, EntryOutcome.MISSING, NO_STREAM) for name in absent]
        entries.sort(key=lambda entry: _extraction_order(entry.stream))
        return cls(layout.dataset, video, row, tuple(entries), tuple(captions))

    @property
    def end_s(self) -> float:
        """End of the last window; 0 where there is none."""
        return max((e.summary.end_s for e in self.entries if e.summary is not None), default=0.0)

    @property
    def frames(self) -> StreamEntry | None:
        """The entry of the frames, where it has rows."""
        found = (e for e in self.entries if e.kind == CLIP and e.outcome is EntryOutcome.OK)
        return next(found, None)

    def streams_of_other_file(self, sha256: str) -> list[str]:
        """Streams that were made from a file with another digest than this."""
        derived = {n for n in registry.names() if registry.extractor_class(n).reads}
        return [
            e.stream
            for e in self.entries
            if e.header is not None
            and e.kind not in derived
            and not e.header.config.get("imported")
            and e.source != sha256
        ]

    def as_json(self) -> dict[str, Any]:
        """The object that `show --json` prints."""
        return {
            "dataset": self.dataset,
            "id": self.id,
            "row": None if self.row is None else self.row.model_dump(mode="json"),
            "end_s": self.end_s,
            "streams": [entry.as_json() for entry in self.entries],
            "captions": [entry.as_json() for entry in self.captions],
        }


@dataclass(frozen=True, eq=False)
class _BucketShard:
    """One stream's shard of one bucket; damage: why it can't be read. Both empty: no file."""

    shard: Shard | None
    damage: str = ""

    @classmethod
    def open(
        cls, layout: StoreLayout, stream: StreamName, bucket: int, buckets: int
    ) -> "_BucketShard":
        path = layout.shard(stream.extractor, stream.fingerprint8, bucket, buckets)
        if not path.exists():
            return cls(None)
        try:
            return cls(Shard.open(path))
        except ShardError as error:
            return cls(None, str(error))

    @property
    def ids(self) -> tuple[str, ...]:
        return () if self.shard is None else self.shard.ids

    def entry(
        self, stream: str, item: str, ledger: LedgerView, reasons: dict[Key, str]
    ) -> StreamEntry:
        if item in self.ids:
            return self._stored(stream, item)
        if self.damage:
            return StreamEntry(stream, item, EntryOutcome.DAMAGED, self.damage)
        key = (item, stream)
        if key not in reasons:
            return StreamEntry(stream, item, EntryOutcome.MISSING)
        quarantined = key in ledger.quarantined
        outcome = EntryOutcome.QUARANTINED if quarantined else EntryOutcome.FAILED
        return StreamEntry(stream, item, outcome, reasons[key])

    def _stored(self, stream: str, item: str) -> StreamEntry:
        assert self.shard is not None
        i = self.shard.ids.index(item)
        try:
            stored = self.shard.item(i)
        except ShardError:
            reason = f"{self.shard.path.name}: the item doesn't match its digest; extract it again"
            return StreamEntry(stream, item, EntryOutcome.DAMAGED, reason)
        outcome = EntryOutcome(self.shard.status[i].value)
        header, reason = self.shard.header, self.shard.reasons[i]
        features, source = stored.features, stored.media_sha256
        return StreamEntry(stream, item, outcome, reason, header, features, source)


def _of_captions(layout: StoreLayout, stream: StreamName, of_bucket: _BucketShard) -> bool:
    """Whether a stream's items are captions: by the header of the bucket's shard, else of another
    one, else by its name."""
    if of_bucket.shard is not None:
        return of_bucket.shard.header.of_captions
    for path in layout.shards(stream):
        with suppress(ShardError):
            return Shard.open(path).header.of_captions
    return stream.extractor == CAPTION


def _failures(ledger: LedgerView) -> dict[Key, str]:
    return {
        key: f"{f.error} at {f.stage}: {f.message} (attempt {f.attempt})"
        for key, f in ledger.failures.items()
    }


def _extraction_order(stream: str) -> tuple[int, str]:
    names = registry.names()
    extractor = extractor_of(stream)
    return (names.index(extractor) if extractor in names else len(names), stream)


def _unknown(layout: StoreLayout, video: str, known: Iterable[str]) -> str:
    ids = set(known)
    for stream in layout.streams():
        for path in layout.shards(stream):
            with suppress(ShardError):  # ids for a hint: a damaged shard may be skipped
                shard = Shard.open(path)
                ids |= set() if shard.header.of_captions else set(shard.ids)
    similar = difflib.get_close_matches(video, sorted(ids), n=3, cutoff=0.5)
    if similar:
        hint = f"similar ids: {', '.join(similar)}"
    else:
        hint = f"the store has: {', '.join(sorted(ids)[:3]) or 'no video'}"
    return f"{layout.folder}: no video {video!r}; {hint}"
