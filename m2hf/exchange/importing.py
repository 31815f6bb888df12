"""Import arrays computed by other tools as shards, with the same provenance as any shard.

This is part of the contract package, since it needs only the contract: no media, no model, no
weights. How the arrays were made is not known, so the fingerprint is that of their content: equal
arrays give the same stream and the same bytes, independent of file format and path.

Times are seconds from the start of the clip, and early fusion uses them as positions: a stream
without times gets its row index as seconds, which is wrong unless its rows are a second apart, and
its shards are flagged "times: row index".
"""

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
from m2hf.shard import ShardItem, write_shard
from m2hf.shard_header import ShardHeader
from m2hf.streams import CAPTION, StreamName, is_extractor_name

NO_ROWS = "no rows in the imported array"
UNTIMED = "times: row index"
UNCHECKED = "texts: not checked against the manifest"

_REVISION = 1  # to be raised when equal arrays would give other features


@dataclass(frozen=True)
class ImportedStream:
    """Report on one imported stream: its name in the store, items by outcome, ids without an
    array, how many arrays of unknown ids were skipped, width and type of the values, flags, shards
    written, and other streams of the same extractor name in the store."""

    stream: str
    ok: int
    empty: int
    missing: tuple[str, ...]
    unknown: int
    width: int
    dtype: str
    flags: tuple[str, ...]
    shards: int
    others: tuple[str, ...]


def import_streams(
    manifest: Manifest,
    store: Path,
    streams: Mapping[str, Path],
    captions: Mapping[str, Path],
    skip_unknown: bool = False,
) -> dict[str, ImportedStream]:
    """Write a stream for each name of `streams` (a folder or HDF5 file of video arrays) and of
    `captions` (a file of caption arrays); returns a report on each, by name.

    skip_unknown: leave out arrays whose ids the manifest lacks. Every array is checked before
    anything is written. Raises UsageError for arrays that can't be features, ManifestError for
    ids and texts that differ from the manifest's.
    """
    for option, names in (("--stream", streams), ("--captions", captions)):
        for name in names:
            if not is_extractor_name(name) or (option, name) == ("--stream", CAPTION):
                raise UsageError(
                    f"{option} {name}: a name has lower-case letters, digits and _; "
                    f"{CAPTION!r} is reserved for --captions"
                )
    if both := sorted({*streams} & {*captions}):
        raise UsageError(f"--captions {both[0]}: also a --stream; one of them needs another name")
    layout = StoreLayout(store, manifest.card.name)
    buckets = layout.buckets(0, len(manifest.rows))
    videos = {row.id: row.id for row in manifest.rows}
    by_id = {caption.id: caption for caption in captions_of(manifest.rows)}
    with ExitStack() as opened:
        surveys = {}
        for name, path in streams.items():
            source = opened.enter_context(open_videos(path, videos, skip_unknown))
            surveys[name] = _Survey.of(name, source, videos)
        texts = {item: caption.text for item, caption in by_id.items()}
        owners = {item: caption.video for item, caption in by_id.items()}
        for name, path in captions.items():
            embedded = opened.enter_context(open_captions(path, texts, skip_unknown))
            surveys[name] = _Survey.of(name, embedded, owners, of_captions=True)
        layout.record(buckets)
        return {name: survey.write(manifest, layout, buckets) for name, survey in surveys.items()}


@dataclass(frozen=True, eq=False)
class _Survey:
    """A source of which every array was read and checked. owners: item -> the video whose bucket
    it belongs to; digests: item -> sha256 of its arrays, for items with arrays, in id order;
    of_captions: whether its items are captions, else videos."""

    name: str
    of_captions: bool
    source: ArraySource
    owners: Mapping[str, str]
    digests: Mapping[str, str]
    width: int
    dtype: str
    flags: tuple[str, ...]

    @classmethod
    def of(
        cls, name: str, source: ArraySource, owners: Mapping[str, str], of_captions: bool = False
    ) -> "_Survey":
        names = source.names
        digests: dict[str, str] = {}
        width, first = 0, ""
        halves, timed, with_text = True, True, True
        for item in sorted(names):
            arrays = source.read(item)
            _features(names[item], of_captions, arrays, arrays.values.shape[1])
            columns = arrays.values.shape[1]
            if columns and not width:
                width, first = columns, names[item]
            if columns not in (0, width):
                raise UsageError(
                    f"{names[item]}: width {columns}, but {first} has width {width}; "
                    "one stream has one width; import them under two names"
                )
            halves &= arrays.values.dtype.itemsize == 2
            timed &= arrays.start_s is not None or not len(arrays.values)
            with_text &= arrays.text is not None
            digests[item] = arrays.digest()
        if not width:
            skipped = f" besides {source.unknown} of unknown ids" if source.unknown else ""
            raise UsageError(
                f"{name}: no array has rows or columns{skipped}, so there is nothing to import"
            )
        flag = (UNCHECKED, with_text) if of_captions else (UNTIMED, timed)
        flags = () if flag[1] else (flag[0],)
        dtype = "float16" if halves else "float32"
        return cls(name, of_captions, source, owners, digests, width, dtype, flags)

    @property
    def declared(self) -> dict[str, Any]:
        """What the fingerprint is made of. The extractor of captions says that they are some."""
        return {
            "extractor": CAPTION if self.of_captions else self.name,
            "imported": True,
            "revision": _REVISION,
            "source_digest": sha256_hex(canonical_json(sorted(self.digests.items())).encode()),
        }

    def write(self, manifest: Manifest, layout: StoreLayout, buckets: int) -> ImportedStream:
        """Write the shards, one bucket at a time."""
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
        stream = StreamName.of(self.name, header.fingerprint)
        return ImportedStream(
            stream=stream,
            ok=outcomes[Status.OK],
            empty=outcomes[Status.EMPTY],
            missing=tuple(item for item in self.owners if item not in self.digests),
            unknown=self.source.unknown,
            width=self.width,
            dtype=self.dtype,
            flags=flags,
            shards=len(ids_by_bucket),
            others=tuple(other for other in layout.streams(self.name) if other != stream),
        )

    def _items(self, ids: Sequence[str]) -> Iterator[ShardItem]:
        names = self.source.names
        for item in ids:
            arrays = self.source.read(item)
            digest = arrays.digest()
            if digest != self.digests[item]:
                raise UsageError(f"{names[item]}: changed while it was imported; import again")
            yield ShardItem(
                item, _features(names[item], self.of_captions, arrays, self.width), digest
            )


def _features(where: str, captions: bool, arrays: ItemArrays, width: int) -> Features:
    """The features of an item; raises UsageError for invalid times or shapes."""
    count = len(arrays.values)
    if not count:
        return Features.empty(NO_ROWS, width)
    seconds = np.zeros(count) if captions else np.arange(count, dtype=np.float64)
    start_s, end_s = arrays.start_s, arrays.end_s
    with_text = arrays.text is not None
    try:
        return Features(
            arrays.values.astype(np.float32),
            start_s=seconds if start_s is None else start_s.astype(np.float64),
            end_s=(seconds if captions else seconds + 1) if end_s is None else end_s.astype("f8"),
            texts=(str(arrays.text), *[""] * (count - 1)) if with_text else None,
            confidence=np.ones(count) if with_text else None,
        )
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
