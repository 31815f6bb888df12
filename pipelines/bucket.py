"""Run one task: decode each clip of a bucket once, extract, and write the bucket's shards."""

import gc
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from m2hf.errors import ResourceError, UpstreamError
from m2hf.extract.base import CaptionExtractor, DerivedExtractor, Extractor, MediaExtractor
from m2hf.keys import sha256_hex
from m2hf.ledger import LedgerWriter
from m2hf.ledger_view import Deaths
from m2hf.manifest import captions_of
from m2hf.pipelines.clips import ClipRunner, clip_requests
from m2hf.pipelines.job import Job, JobSpec
from m2hf.pipelines.outcomes import Outcomes
from m2hf.pipelines.plan import BucketTask, item_states, source_digests
from m2hf.pipelines.stored_items import StoredItems
from m2hf.pipelines.trial import TrialRequest, try_alone
from m2hf.shard import write_shard
from m2hf.shard_header import ShardHeader

# Tasks in two threads of a worker would interleave ledger lines and share the RNG state.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class TaskResult:
    """What a task did, and all that a worker sends back. written: extractor -> number of items;
    damaged: extractor -> stored items that it found damaged, and didn't use."""

    task: BucketTask
    written: Mapping[str, int] = field(default_factory=dict)
    damaged: Mapping[str, Sequence[str]] = field(default_factory=dict)


def run_task(spec: JobSpec, task: BucketTask) -> TaskResult:
    """Extract what is missing in a bucket: suspects in a process of their own, the rest in this.

    Raises ResourceError where no further clip can succeed; a bad clip never raises.
    """
    job = Job.open(spec)
    with _one_at_a_time:
        job.configure_process()
        runner = _TaskRunner(job, task)
        suspects = runner.suspects()
        if suspects:
            _drop_models(job.device)  # memory need not hold those of both processes
            try_alone(TrialRequest(spec, task, suspects), ledger_of(spec))
            runner = _TaskRunner(job, task, lambda item: item not in suspects)
        return runner.run()


def run_alone(spec: JobSpec, task: BucketTask, item: str) -> None:
    """Extract what is missing of one item, in this process, which works on no other meanwhile.

    Raises ResourceError where no clip can succeed.
    """
    job = Job.open(spec)
    job.configure_process()
    _TaskRunner(job, task, lambda other: other == item).run()


def ledger_of(spec: JobSpec) -> LedgerWriter:
    """This process's ledger of a job."""
    return _process_ledger(Job.open(spec).layout.ledger)


@cache
def _process_ledger(folder: Path) -> LedgerWriter:
    return LedgerWriter(folder)


@cache
def _deaths(folder: Path) -> Deaths:
    return Deaths(folder)


@cache
def _session(extractor: Extractor, device: str, weights: tuple[tuple[str, str], ...]) -> Any:
    """The extractor's models, opened once per process and set of weights (name, sha256)."""
    assert isinstance(extractor, MediaExtractor | CaptionExtractor | DerivedExtractor)
    session = extractor.open(device)
    if tuple(extractor.weights().items()) != weights:
        raise ResourceError(
            f"{extractor.name}: its weights were changed since the job began; start it again"
        )
    return session


def _drop_models(device: str) -> None:
    _session.cache_clear()
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


class _TaskRunner:
    """Runs a task for those of its items that `chosen` accepts."""

    def __init__(
        self, job: Job, task: BucketTask, chosen: Callable[[str], bool] = lambda item: True
    ) -> None:
        self._job = job
        self._task = task
        self._chosen = chosen
        self._outcomes = Outcomes(job, task.names, _process_ledger(job.layout.ledger))
        # Asked for at every start: trials may have put clips in quarantine.
        self._deaths = _deaths(job.layout.ledger).view()
        self._rows = job.rows_by_bucket[task.bucket]
        self._checked: dict[str, StoredItems] = {}
        self._damaged: dict[str, tuple[str, ...]] = {}

    def suspects(self) -> tuple[str, ...]:
        """Items with missing features that were in work when a process ended."""
        if not self._deaths.suspects:
            return ()
        found: set[str] = set()
        for name in self._task.names:
            stream = self._job.stream(name)
            found |= {i for i in self._missing(name) if (i, stream) in self._deaths.suspects}
        return tuple(sorted(found))

    def run(self) -> TaskResult:
        kinds: tuple[tuple[type[Extractor], Any], ...] = (
            (MediaExtractor, self._media),
            (CaptionExtractor, self._captions),
            (DerivedExtractor, self._derived),  # last: these read what the others wrote
        )
        written = {}
        for kind, work in kinds:
            names = [n for n in self._task.names if isinstance(self._job.extractor(n), kind)]
            if names:
                work(names)
            for name in names:
                self._write(name)
                written[name] = len(self._outcomes.done[name])
        return TaskResult(self._task, written, self._damaged)

    def _media(self, names: Sequence[str]) -> None:
        missing = {name: self._missing(name) for name in names}
        # Opened before the first clip, so that a model that doesn't load isn't blamed on a clip.
        sessions = {name: self._session(name) for name in names if missing[name]}
        requests = clip_requests(self._rows, missing)
        ClipRunner(self._job, sessions, self._outcomes).run(requests)

    def _captions(self, names: Sequence[str]) -> None:
        for name in names:
            missing = self._missing(name)
            if not missing:
                continue
            session = self._session(name)
            for caption in captions_of(self._rows):
                if caption.id in missing:
                    source = sha256_hex(caption.text.encode())
                    work = partial(session.extract, caption.text)
                    self._outcomes.attempt(caption.id, name, source, work)

    def _derived(self, names: Sequence[str]) -> None:
        for name in names:
            missing = self._missing(name)
            if not missing:
                continue
            reads = self._job.extractor(name).reads
            stored = {read: self._stored(read) for read in reads}
            inputs = {r: {item.id: item.features for item in s.items()} for r, s in stored.items()}
            damaged = {item for s in stored.values() for item in s.damaged}
            sources = source_digests(self._job, name, self._task.bucket)
            session = self._session(name)
            for row in self._rows:
                if row.id not in missing or row.id in damaged:
                    continue  # it stays missing until what it is derived from is repaired
                lacking = [read for read in reads if row.id not in inputs[read]]
                if lacking:
                    error = UpstreamError(f"{', '.join(lacking)}: no features of this clip")
                    self._outcomes.failed(row.id, [name], "input", error)
                    continue
                given = {read: inputs[read][row.id] for read in reads}
                self._outcomes.attempt(
                    row.id, name, sources[row.id], partial(session.extract, given)
                )

    def _session(self, name: str) -> Any:
        weights = tuple(self._job.declared[name]["weights"].items())
        return _session(self._job.extractor(name), self._job.device, weights)

    def _missing(self, name: str) -> frozenset[str]:
        """Items to extract: also the damaged ones of a bucket from which others are missing."""
        stored = self._stored(name)
        failed = {key for key in self._task.failed if key[0] not in stored.damaged}
        quarantined = self._deaths.quarantined
        bucket = self._task.bucket
        states = item_states(
            self._job, name, bucket, stored.shard, stored.damaged, failed, quarantined
        )
        return frozenset(filter(self._chosen, states.missing))

    def _stored(self, name: str) -> StoredItems:
        """The checked items of a shard as it was when it was first asked for, or last written."""
        if name not in self._checked:
            found = StoredItems.check(self._job, name, self._task.bucket)
            found.record()
            if found.damaged:
                self._damaged[name] = found.damaged
            self._checked[name] = found
        return self._checked[name]

    def _write(self, name: str) -> None:
        """Write the bucket's shard with the intact of its old rows and the new ones."""
        new = self._outcomes.done[name]
        if not new:
            return
        job, extractor, bucket = self._job, self._job.extractor(name), self._task.bucket
        old = self._stored(name).items(without={item.id for item in new})
        header = ShardHeader(
            dataset=job.manifest.card.name,
            extractor=name,
            revision=extractor.revision,
            fingerprint=job.fingerprints[name],
            bucket=bucket,
            buckets=job.buckets,
            manifest=job.manifest.digest,
            config=dict(job.declared[name]),
            weights=dict(job.declared[name]["weights"]),
            environment=extractor.environment(),
            columns=extractor.columns,
            flags=job.flags(name),
        )
        write_shard(job.shard(name, bucket), header, [*old, *new], extractor.dtype, extractor.width)
        del self._checked[name]
