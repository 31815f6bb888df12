"""Run one task: decode each clip of a bucket once, extract, and write the bucket's shards."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from m2hf.errors import (
    ClipError,
    ExtractorError,
    M2hfError,
    MediaError,
    ResourceError,
    ShardError,
    UpstreamError,
)
from m2hf.extract.base import (
    CaptionExtractor,
    DerivedExtractor,
    Extractor,
    MediaExtractor,
    MediaSession,
)
from m2hf.extract.media import DecodedClip, decode
from m2hf.features import Features
from m2hf.keys import sha256_hex
from m2hf.ledger import LedgerView, LedgerWriter
from m2hf.manifest import Row, captions_of
from m2hf.pipelines.job import Job, JobSpec
from m2hf.pipelines.plan import Task, read_shard, source_digests, standing
from m2hf.shard import Shard, ShardHeader, ShardItem, write_shard

_ATTEMPTS = 2
# A worker of several threads would mix up the ledger's last line, and the random state.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Receipt:
    """What a task did: extractor -> items written now. All that comes back from a worker."""

    task: Task
    written: Mapping[str, int] = field(default_factory=dict)


def run_task(spec: JobSpec, task: Task) -> Receipt:
    """Do what is missing of a bucket; called in the process that does the work.

    Raises ResourceError where no further clip could succeed; a bad clip never raises.
    """
    job = Job.open(spec)
    with _one_at_a_time:
        job.configure_process()
        return _BucketRun(job, task, _process_ledger(job.layout.ledger)).run()


@cache
def _process_ledger(folder: Path) -> LedgerWriter:
    return LedgerWriter(folder)


@cache
def _session(extractor: Extractor, device: str) -> Any:
    """The extractor's models, opened once per process."""
    assert isinstance(extractor, MediaExtractor | CaptionExtractor | DerivedExtractor)
    return extractor.open(device)


class _BucketRun:
    def __init__(self, job: Job, task: Task, ledger: LedgerWriter) -> None:
        self._job = job
        self._task = task
        self._ledger = ledger
        # Asked in each attempt: what killed the last one twice is now in quarantine.
        self._quarantined = LedgerView.read_quarantine(job.layout.ledger)
        self._rows = job.by_bucket.get(task.bucket, [])
        self._done: dict[str, list[ShardItem]] = {name: [] for name in task.names}

    def run(self) -> Receipt:
        kinds: tuple[tuple[type[Extractor], Any], ...] = (
            (MediaExtractor, self._media),
            (CaptionExtractor, self._captions),
            (DerivedExtractor, self._derived),  # last: it reads what the others wrote
        )
        written = {}
        for kind, work in kinds:
            names = [n for n in self._task.names if isinstance(self._job.extractor(n), kind)]
            if names:
                work(names)
            for name in names:
                self._write(name)
                written[name] = len(self._done[name])
        return Receipt(self._task, written)

    def _media(self, names: Sequence[str]) -> None:
        missing = {name: self._missing(name) for name in names}
        # Opened before the first clip: a model that doesn't load is no clip's fault.
        sessions = {name: self._session(name) for name in names if missing[name]}
        for row in self._rows:
            wanted = [name for name in names if row.id in missing[name]]
            if not wanted:
                continue
            clip = self._decode(row, wanted)
            if clip is None:
                continue
            for name in wanted:
                features = self._attempt(
                    row.id, name, partial(self._of_clip, name, sessions[name], clip)
                )
                if features is not None:
                    self._keep(name, row.id, features, clip.sha256)

    def _of_clip(self, name: str, session: MediaSession, clip: DecodedClip) -> Features:
        extractor = self._job.extractor(name)
        assert isinstance(extractor, MediaExtractor)
        features = session.extract(clip)
        remark = clip.remark(extractor.views(), extractor.sample_rates())
        reason = "; ".join(filter(None, [features.reason, remark]))
        return replace(features, reason=reason)

    def _decode(self, row: Row, names: Sequence[str]) -> DecodedClip | None:
        extractors = [self._job.extractor(name) for name in names]
        media = [e for e in extractors if isinstance(e, MediaExtractor)]
        streams = [self._job.stream(name) for name in names]
        began = time.perf_counter()
        self._ledger.started(row.id, streams, "decode")
        try:
            clip = decode(
                self._job.media / row.path,
                views=sorted({v for e in media for v in e.views()}, key=repr),
                rates=sorted({r for e in media for r in e.sample_rates()}),
                limits=self._job.config.media,
                start=row.start,
                end=row.end,
            )
            if row.sha256 not in (None, clip.sha256):
                raise MediaError(f"sha256 is {clip.sha256}, the manifest has {row.sha256}")
        except MediaError as error:
            seconds = time.perf_counter() - began
            self._ledger.failed(row.id, streams, "decode", error, seconds, attempt=1)
            return None
        self._ledger.decoded(row.id, round(time.perf_counter() - began, 4))
        return clip

    def _captions(self, names: Sequence[str]) -> None:
        for name in names:
            missing = self._missing(name)
            session = self._session(name)
            for caption in captions_of(self._rows):
                if caption.id in missing:
                    features = self._attempt(
                        caption.id, name, partial(session.extract, caption.text)
                    )
                    if features is not None:
                        self._keep(name, caption.id, features, sha256_hex(caption.text.encode()))

    def _derived(self, names: Sequence[str]) -> None:
        for name in names:
            reads = self._job.extractor(name).reads
            inputs = {read: self._by_id(read) for read in reads}
            sources = source_digests(self._job, name, self._task.bucket)
            missing = self._missing(name)
            session = self._session(name)
            for row in self._rows:
                if row.id not in missing:
                    continue
                lacking = [read for read in reads if row.id not in inputs[read]]
                if lacking:
                    error = UpstreamError(f"{', '.join(lacking)}: no features of this clip")
                    self._ledger.failed(row.id, [self._job.stream(name)], "input", error, 0.0, 1)
                    continue
                given = {read: inputs[read][row.id] for read in reads}
                features = self._attempt(row.id, name, partial(session.extract, given))
                if features is not None:
                    self._keep(name, row.id, features, sources[row.id])

    def _attempt(self, item: str, name: str, work: Callable[[], Features]) -> Features | None:
        """Extract, twice if need be; None where it failed, which the ledger then says."""
        stream = self._job.stream(name)
        for attempt in range(1, _ATTEMPTS + 1):
            began = time.perf_counter()
            self._ledger.started(item, [stream], "extract")
            try:
                with _as_m2hf_errors(name):
                    features = work()
            except ClipError as error:
                seconds = time.perf_counter() - began
                if isinstance(error, MediaError) or attempt == _ATTEMPTS:
                    self._ledger.failed(item, [stream], "extract", error, seconds, attempt)
                    return None
                continue
            seconds = time.perf_counter() - began
            self._ledger.done(item, stream, features.status.value, seconds, features.reason)
            return features
        raise AssertionError("unreachable")

    def _session(self, name: str) -> Any:
        return _session(self._job.extractor(name), self._job.device)

    def _missing(self, name: str) -> frozenset[str]:
        failed = dict.fromkeys(self._task.failed, "")
        shard = self._old(name)
        return standing(
            self._job, name, self._task.bucket, shard, failed, self._quarantined
        ).missing

    def _old(self, name: str) -> Shard | None:
        try:
            return read_shard(self._job, name, self._task.bucket)
        except ShardError:  # damaged: the plan said so, and it is done again
            return None

    def _by_id(self, name: str) -> dict[str, Features]:
        shard = self._old(name)
        return {} if shard is None else {item.id: item.features for item in shard.items()}

    def _keep(self, name: str, item: str, features: Features, source: str) -> None:
        self._done[name].append(ShardItem(item, features, source))

    def _write(self, name: str) -> None:
        """The bucket's shard with the old rows and the new ones."""
        new = self._done[name]
        if not new:
            return
        job, extractor, bucket = self._job, self._job.extractor(name), self._task.bucket
        shard = self._old(name)
        fresh = {item.id for item in new}
        old = [] if shard is None else [i for i in shard.items() if i.id not in fresh]
        header = ShardHeader(
            dataset=job.manifest.card.name,
            extractor=name,
            revision=extractor.revision,
            fingerprint=job.fingerprints[name],
            bucket=bucket,
            buckets=job.buckets,
            manifest=job.manifest.digest,
            config=extractor.declared(job.fingerprints),
            weights=dict(extractor.weights()),
            environment=extractor.environment(),
            columns=extractor.columns,
            flags=job.flags(name),
        )
        write_shard(job.shard(name, bucket), header, [*old, *new], extractor.dtype, extractor.width)


@contextmanager
def _as_m2hf_errors(name: str) -> Iterator[None]:
    """Anything that a library raises is an outcome of the clip; no memory is one of the machine."""
    try:
        yield
    except M2hfError:
        raise
    except MemoryError as error:
        raise ResourceError(
            f"{name}: out of memory; use fewer workers or smaller batches"
        ) from error
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, whichever device
            raise ResourceError(f"{name}: out of device memory: {error}") from error
        raise ExtractorError(f"{type(error).__name__}: {error}") from error
