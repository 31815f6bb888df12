"""What a store has of one video, and why it lacks the rest: read from shards and ledger.

N rows of an entry, D their width.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from m2hf.errors import ShardError, UsageError
from m2hf.extract import registry
from m2hf.features import Features
from m2hf.keys import bucket_of
from m2hf.layout import StoreLayout
from m2hf.ledger import Key, LedgerView
from m2hf.manifest import Row, captions_of
from m2hf.shard import Shard, ShardHeader
from m2hf.streams import CAPTION, CLIP, THUMBNAIL, StreamName, extractor_of

NO_STREAM = "the store has no such stream"


class Outcome(StrEnum):
    """What became of one item in one stream. DAMAGED: a shard, or an item that doesn't match its
    digest; MISSING: neither shard nor ledger know of it."""

    OK = "ok"
    EMPTY = "empty"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    DAMAGED = "damaged"
    MISSING = "not extracted"


@dataclass(frozen=True)
class Summary:
    """Rows in a few numbers. norm_min, norm_max: of the rows' L2 norms; alike: mean cosine of a
    row and the next one, or None for fewer than two rows that have a direction."""

    rows: int
    width: int
    dtype: str
    start_s: float
    end_s: float
    norm_min: float
    norm_max: float
    alike: float | None

    @classmethod
    def of(cls, features: Features) -> "Summary | None":
        """None where there are no rows."""
        values_ND = features.values.astype(np.float64)
        if not len(values_ND):
            return None
        norms_N = np.linalg.norm(values_ND, axis=1)
        pairs = norms_N[:-1] * norms_N[1:]
        dots = (values_ND[:-1] * values_ND[1:]).sum(axis=1)
        cosines = dots[pairs > 0] / pairs[pairs > 0]
        return cls(
            rows=len(values_ND),
            width=values_ND.shape[1],
            dtype=features.values.dtype.name,
            start_s=round(float(features.start_s.min()), 4),
            end_s=round(float(features.end_s.max()), 4),
            norm_min=round(float(norms_N.min()), 4),
            norm_max=round(float(norms_N.max()), 4),
            alike=round(float(cosines.mean()), 4) if len(cosines) else None,
        )


@dataclass(frozen=True, eq=False)
class Entry:
    """One item in one stream. reason: why it is not ok, or a remark on rows that are; header and
    features where a shard has them, and source, the sha256 of what they were made from."""

    stream: str
    item: str
    outcome: Outcome
    reason: str = ""
    header: ShardHeader | None = None
    features: Features | None = None
    source: str = ""

    @property
    def extractor(self) -> str:
        return extractor_of(self.stream)

    @property
    def flags(self) -> tuple[str, ...]:
        return () if self.header is None else tuple(self.header.flags)

    @property
    def strings(self) -> tuple[str, ...] | None:
        """Words that were read or heard, a string a row; None where rows have none."""
        if self.features is None or self.extractor == THUMBNAIL:
            return None
        return self.features.texts

    @property
    def summary(self) -> Summary | None:
        return None if self.features is None else Summary.of(self.features)

    def windows(self) -> Iterator[dict[str, Any]]:
        """start_s and end_s of each row; text and confidence of strings, and named values."""
        if self.features is None:
            return
        f, strings = self.features, self.strings
        columns = () if self.header is None else self.header.columns
        for i in range(len(f.values)):
            times = zip(("start_s", "end_s"), (f.start_s[i], f.end_s[i]), strict=True)
            window: dict[str, Any] = {name: round(float(at), 4) for name, at in times}
            if strings is not None and f.confidence is not None:
                window |= {"text": strings[i], "confidence": round(float(f.confidence[i]), 4)}
            for name, value in zip(columns, f.values[i], strict=False):
                window[name] = round(float(value), 4)
            yield window

    def as_json(self) -> dict[str, Any]:
        """What `show --json` prints of it."""
        return {
            "stream": self.stream,
            "item": self.item,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "flags": list(self.flags),
            "fingerprint": "" if self.header is None else self.header.fingerprint,
            "source_sha256": self.source,
            "summary": None if (summary := self.summary) is None else asdict(summary),
            "windows": list(self.windows()),
        }


@dataclass(frozen=True, eq=False)
class Timeline:
    """One video: its entries in extraction order, and those of its captions. row: what a manifest
    says of it, where one was given."""

    dataset: str
    id: str
    row: Row | None
    entries: tuple[Entry, ...]
    captions: tuple[Entry, ...]

    @classmethod
    def read(
        cls, layout: StoreLayout, video: str, row: Row | None, known: Iterable[str]
    ) -> "Timeline":
        """`known`: ids that there are beside those that the store tells of.

        Raises UsageError, naming ids that are near, where nothing at all is known of `video`.
        """
        ledger = LedgerView.read(layout.ledger)
        bucket = bucket_of(video, buckets := layout.buckets(0, 0))
        reasons = {**_failures(ledger), **ledger.quarantined}
        spoken = re.compile(rf"{re.escape(video)}#\d+")
        entries: list[Entry] = []
        captions: list[Entry] = []
        told = {
            StreamName(stream)
            for item, stream in reasons
            if item == video or spoken.fullmatch(item)
        }
        for stream in _ordered({*layout.streams(), *told}):
            shelf = _Shelf.open(layout, stream, bucket, buckets)
            if stream.extractor != CAPTION:
                entries.append(shelf.entry(stream, video, ledger, reasons))
                continue
            items = {i for i in shelf.ids if spoken.fullmatch(i)}
            items |= {i for i, of in reasons if of == stream and spoken.fullmatch(i)}
            if row is not None:
                items = {caption.id for caption in captions_of([row])}
            order = sorted(items, key=lambda item: int(item.rpartition("#")[2]))
            captions += [shelf.entry(stream, item, ledger, reasons) for item in order]
        if row is None and not captions and all(e.outcome is Outcome.MISSING for e in entries):
            raise UsageError(_unknown(layout, video, known))
        have = {entry.extractor for entry in entries}
        absent = [n for n in registry.names() if n not in have and n != CAPTION]
        entries += [Entry(name, video, Outcome.MISSING, NO_STREAM) for name in absent]
        entries.sort(key=lambda entry: _place(entry.stream))
        return cls(layout.dataset, video, row, tuple(entries), tuple(captions))

    @property
    def end_s(self) -> float:
        """Where the last window ends; 0 where there is none."""
        return max((e.summary.end_s for e in self.entries if e.summary is not None), default=0.0)

    @property
    def frames(self) -> Entry | None:
        """The pictures' entry, where it has rows."""
        found = (e for e in self.entries if e.extractor == CLIP and e.outcome is Outcome.OK)
        return next(found, None)

    def changed(self, sha256: str) -> list[str]:
        """Streams that were made from another file than the one with this digest."""
        derived = {n for n in registry.names() if registry.extractor_class(n).reads}
        return [
            e.stream
            for e in self.entries
            if e.header is not None
            and e.extractor not in derived
            and not e.header.config.get("imported")
            and e.source != sha256
        ]

    def as_json(self) -> dict[str, Any]:
        """What `show --json` prints."""
        return {
            "dataset": self.dataset,
            "id": self.id,
            "row": None if self.row is None else self.row.model_dump(mode="json"),
            "end_s": self.end_s,
            "streams": [entry.as_json() for entry in self.entries],
            "captions": [entry.as_json() for entry in self.captions],
        }


@dataclass(frozen=True, eq=False)
class _Shelf:
    """One stream's shard of one bucket: opened, damaged, or not there."""

    shard: Shard | None
    damage: str = ""

    @classmethod
    def open(cls, layout: StoreLayout, stream: StreamName, bucket: int, buckets: int) -> "_Shelf":
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

    def entry(self, stream: str, item: str, ledger: LedgerView, reasons: dict[Key, str]) -> Entry:
        if item in self.ids:
            return self._stored(stream, item)
        if self.damage:
            return Entry(stream, item, Outcome.DAMAGED, self.damage)
        key = (item, stream)
        if key not in reasons:
            return Entry(stream, item, Outcome.MISSING)
        bad = Outcome.QUARANTINED if key in ledger.quarantined else Outcome.FAILED
        return Entry(stream, item, bad, reasons[key])

    def _stored(self, stream: str, item: str) -> Entry:
        assert self.shard is not None
        i = self.shard.ids.index(item)
        try:
            stored = self.shard.intact_item(i)
        except ShardError:
            why = f"{self.shard.path.name}: the item doesn't match its digest; extract it again"
            return Entry(stream, item, Outcome.DAMAGED, why)
        outcome = Outcome(self.shard.status[i].value)
        source = stored.media_sha256
        return Entry(
            stream, item, outcome, self.shard.reasons[i], self.shard.header, stored.features, source
        )


def _failures(ledger: LedgerView) -> dict[Key, str]:
    return {
        key: f"{f.error} at {f.stage}: {f.message} (attempt {f.attempt})"
        for key, f in ledger.failures.items()
    }


def _place(stream: str) -> tuple[int, str]:
    names = registry.names()
    extractor = extractor_of(stream)
    return (names.index(extractor) if extractor in names else len(names), stream)


def _ordered(streams: Iterable[StreamName]) -> list[StreamName]:
    return sorted(streams, key=_place)


def _unknown(layout: StoreLayout, video: str, known: Iterable[str]) -> str:
    ids = set(known)
    for stream in layout.streams():
        if stream.extractor != CAPTION:
            for path in layout.shards(stream):
                with suppress(ShardError):  # a hint needs no damaged shard
                    ids |= set(Shard.open(path).ids)
    near = difflib.get_close_matches(video, sorted(ids), n=3, cutoff=0.5)
    some = ", ".join(near or sorted(ids)[:3]) or "no video at all"
    return f"{layout.folder}: no video {video!r}; {'near it' if near else 'it has'}: {some}"
