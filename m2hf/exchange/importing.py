"""Shards from arrays that others have computed, with the provenance that any shard has.

This lies in the contract's own room, since it needs nothing but the contract: no media, no
model, no weights. What the arrays say is all that is known of them, so the fingerprint is made
of their content: the same arrays give the same stream and the same bytes, whichever files they
lay in and wherever those are.

Times are seconds from the start of the clip, and early fusion attends by them: a stream without
times gets its row index as seconds, which is wrong unless its rows are a second apart, and its
shards are flagged "times: row index".
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from m2hf import __version__
from m2hf.errors import UsageError
from m2hf.exchange.arrays import ArraySource, ItemArrays, open_videos
from m2hf.exchange.caption_arrays import open_captions
from m2hf.features import Features, Status
from m2hf.keys import canonical_json, fingerprint, group_by_bucket, sha256_hex
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest, captions_of
from m2hf.shard import ShardHeader, ShardItem, write_shard

CAPTIONS = "caption"  # the extractor that imported captions stand in for
NO_ROWS = "no rows in the imported array"
UNTIMED = "times: row index"
UNCHECKED = "texts: not checked against the manifest"

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_REVISION = 1  # raise it when the same arrays would give other features


@dataclass(frozen=True)
class ImportedStream:
    """What became of one stream: its name in the store, items by outcome, ids that have no
    array, width and type of the values, flags, shards written, and streams of the same name
    that the store has beside it."""

    stream: str
    ok: int
    empty: int
    missing: tuple[str, ...]
    width: int
    dtype: str
    flags: tuple[str, ...]
    shards: int
    others: tuple[str, ...]


def import_streams(
    manifest: Manifest, store: Path, streams: Mapping[str, Path], captions: Path | None
) -> dict[str, ImportedStream]:
    """Write a stream for each name of `streams` (a folder or HDF5 file of video arrays), and
    "caption" for the caption file; returns what became of each, by name.

    Every array is checked before anything is written. Raises UsageError for arrays that can't
    be features, ManifestError for ids and texts that aren't the manifest's.
    """
    for name in streams:
        if not _NAME.match(name) or name == CAPTIONS:
            raise UsageError(
                f"--stream {name}: a name is lower-case letters, digits and _; "
                f"{CAPTIONS!r} is what --captions makes"
            )
    layout = StoreLayout(store, manifest.card.name)
    buckets = layout.buckets(0, len(manifest.rows))
    videos = {row.id: row.id for row in manifest.rows}
    spoken = {caption.id: caption for caption in captions_of(manifest.rows)}
    with ExitStack() as opened:
        surveys = {}
        for name, path in streams.items():
            source = opened.enter_context(open_videos(path, videos))
            surveys[name] = _Survey.of(name, source, videos)
        if captions is not None:
            texts = {item: caption.text for item, caption in spoken.items()}
            embedded = opened.enter_context(open_captions(captions, texts))
            owners = {item: caption.video for item, caption in spoken.items()}
            surveys[CAPTIONS] = _Survey.of(CAPTIONS, embedded, owners)
        layout.record(buckets)
        return {name: survey.write(manifest, layout, buckets) for name, survey in surveys.items()}


@dataclass(frozen=True, eq=False)
class _Survey:
    """A source that was read once and found good. owners: item -> the video whose bucket it is
    in; digests: item -> sha256 of its arrays, for items that there are, in id order."""

    name: str
    source: ArraySource
    owners: Mapping[str, str]
    digests: Mapping[str, str]
    width: int
    dtype: str
    flags: tuple[str, ...]

    @classmethod
    def of(cls, name: str, source: ArraySource, owners: Mapping[str, str]) -> "_Survey":
        names = source.names
        digests: dict[str, str] = {}
        width, first = 0, ""
        halves, timed, told = True, True, True
        for item in sorted(names):
            arrays = source.read(item)
            _features(names[item], name, arrays, arrays.values.shape[1])
            columns = arrays.values.shape[1]
            if columns and not width:
                width, first = columns, names[item]
            if columns not in (0, width):
                raise UsageError(
                    f"{names[item]}: width {columns}, but {first} has width {width}; "
                    "one stream has one width, import them under two names"
                )
            halves &= arrays.values.dtype.itemsize == 2
            timed &= arrays.start_s is not None or not len(arrays.values)
            told &= arrays.text is not None
            digests[item] = arrays.digest()
        if not width:
            raise UsageError(f"{name}: no array has rows or columns, so there is nothing to import")
        flag = (UNCHECKED, told) if name == CAPTIONS else (UNTIMED, timed)
        flags = () if flag[1] else (flag[0],)
        return cls(name, source, owners, digests, width, "float16" if halves else "float32", flags)

    @property
    def declared(self) -> dict[str, Any]:
        """All that decides the features."""
        return {
            "extractor": self.name,
            "imported": True,
            "revision": _REVISION,
            "source_digest": sha256_hex(canonical_json(sorted(self.digests.items())).encode()),
        }

    def write(self, manifest: Manifest, layout: StoreLayout, buckets: int) -> ImportedStream:
        """Write the shards, a bucket at a time."""
        flags = (*self.flags, *manifest.card.flags.get(self.name, ()))
        header = ShardHeader(
            dataset=manifest.card.name,
            extractor=self.name,
            revision=_REVISION,
            fingerprint=fingerprint(self.declared),
            bucket=0,
            buckets=buckets,
            manifest=manifest.digest,
            config=self.declared,
            weights={},
            environment={"m2hf": __version__},
            flags=flags,
        )
        ids_by_bucket = group_by_bucket(self.digests, buckets, lambda item: self.owners[item])
        outcomes = dict.fromkeys(Status, 0)
        for bucket, ids in sorted(ids_by_bucket.items()):
            items = list(self._items(ids))
            path = layout.shard(self.name, header.fingerprint, bucket, buckets)
            write_shard(path, replace(header, bucket=bucket), items, self.dtype, self.width)
            for written in items:
                outcomes[written.features.status] += 1
        stream = layout.stream(self.name, header.fingerprint).name
        return ImportedStream(
            stream=stream,
            ok=outcomes[Status.OK],
            empty=outcomes[Status.EMPTY],
            missing=tuple(item for item in self.owners if item not in self.digests),
            width=self.width,
            dtype=self.dtype,
            flags=flags,
            shards=len(ids_by_bucket),
            others=tuple(
                other
                for other in layout.streams()
                if other.partition("@")[0] == self.name and other != stream
            ),
        )

    def _items(self, ids: Sequence[str]) -> Iterator[ShardItem]:
        names = self.source.names
        for item in ids:
            arrays = self.source.read(item)
            digest = arrays.digest()
            if digest != self.digests[item]:
                raise UsageError(f"{names[item]}: changed while it was imported; import again")
            yield ShardItem(item, _features(names[item], self.name, arrays, self.width), digest)


def _features(where: str, name: str, arrays: ItemArrays, width: int) -> Features:
    """The item as the contract has it, raising UsageError where it contradicts itself."""
    count = len(arrays.values)
    captions = name == CAPTIONS
    if not count:
        return Features.empty(NO_ROWS, width)
    seconds = np.zeros(count) if captions else np.arange(count, dtype=np.float64)
    start_s, end_s = arrays.start_s, arrays.end_s
    told = arrays.text is not None
    try:
        return Features(
            arrays.values.astype(np.float32),
            start_s=seconds if start_s is None else start_s.astype(np.float64),
            end_s=(seconds if captions else seconds + 1) if end_s is None else end_s.astype("f8"),
            texts=(str(arrays.text), *[""] * (count - 1)) if told else None,
            confidence=np.ones(count) if told else None,
        )
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
