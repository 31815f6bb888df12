"""Which features exist, which failed and which are missing: a set difference, read from files."""

from collections.abc import Collection, Container
from dataclasses import dataclass, field
from pathlib import Path

from m2hf.damage import read_damage
from m2hf.errors import MismatchError, ShardError, UsageError
from m2hf.extract.base import CaptionExtractor, DerivedExtractor
from m2hf.features import Status
from m2hf.keys import canonical_json, sha256_hex
from m2hf.ledger_view import Key, LedgerView
from m2hf.manifest import captions_of
from m2hf.pipelines.job import Job
from m2hf.shard import REPAIR, Shard, damage_message


@dataclass(frozen=True)
class ItemStates:
    """The items of one extractor and bucket by state; an item is in exactly one of these sets."""

    ok: frozenset[str] = frozenset()
    empty: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    quarantined: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()

    COUNTS = ("ok", "empty", "failed", "quarantined", "missing")


@dataclass(frozen=True)
class BucketTask:
    """One bucket and the extractors that share its decode. Tasks of wave 1 read what wave 0 wrote.

    failed: (item, stream) that failed before, according to the ledger, and are not retried.
    """

    bucket: int
    names: tuple[str, ...]
    wave: int = 0
    failed: tuple[Key, ...] = ()


@dataclass
class JobState:
    """The state of a whole job. counts: items by extractor and state; todo: bucket -> extractors
    with missing items; failed: bucket -> (item, stream) that are not retried; damaged: shards that
    can't be read and will be extracted again; damaged_items: shard -> items that are recorded as
    damaged, which count as failed until they are retried; remarks: of the other items in a shard,
    where there is one; unresolved: keys that failed or are in quarantine, and are not among these.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    todo: dict[int, tuple[str, ...]] = field(default_factory=dict)
    failed: dict[int, tuple[Key, ...]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    damaged_items: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    remarks: dict[Key, str] = field(default_factory=dict)
    unresolved: set[Key] = field(default_factory=set)

    @property
    def damage_messages(self) -> list[str]:
        """A line on each shard with damaged items."""
        return [
            f"{damage_message(path, items)}; {REPAIR}" for path, items in self.damaged_items.items()
        ]


def read_job_state(job: Job, ledger: LedgerView, retry_damaged: bool = False) -> JobState:
    """Open every shard of the job once; raises SchemaError for one of another version.

    retry_damaged: items that are recorded as damaged are missing.
    """
    result = JobState({name: dict.fromkeys(ItemStates.COUNTS, 0) for name in job.names})
    for bucket in range(job.buckets):
        todo: list[str] = []
        failed: list[Key] = []
        for name in job.names:
            shard = None
            try:
                shard = read_shard(job, name, bucket)
            except ShardError as error:
                result.damaged.append(str(error))
            damaged: tuple[str, ...] = ()
            stream, wanted = job.stream(name), {*job.items(name, bucket)}
            stored: dict[str, str] = {}
            if shard is not None:
                damaged = tuple(item for item in read_damage(shard.path) if item in wanted)
                pairs = zip(shard.ids, shard.reasons, strict=True)
                stored = {i: r for i, r in pairs if i in wanted and i not in damaged}
            result.remarks |= {(item, stream): r for item, r in stored.items() if r}
            failures = {(item, stream) for item in wanted if (item, stream) in ledger.failures}
            quarantined = {(i, stream) for i in wanted if (i, stream) in ledger.quarantined}
            result.unresolved |= {key for key in failures | quarantined if key[0] not in stored}
            if shard is not None and damaged and not retry_damaged:
                result.damaged_items[shard.path] = damaged
                failures |= {(item, stream) for item in damaged}
            states = item_states(job, name, bucket, shard, damaged, failures, ledger.quarantined)
            for count in ItemStates.COUNTS:
                result.counts[name][count] += len(getattr(states, count))
            if states.missing:
                todo.append(name)
            failed += [(item, stream) for item in sorted(states.failed)]
        result.failed[bucket] = tuple(failed)
        if todo:
            result.todo[bucket] = tuple(todo)
    return result


def plan_tasks(job: Job, state: JobState) -> list[BucketTask]:
    """Tasks for everything missing, ordered by wave; tasks of one wave are independent.

    Raises UsageError where an extractor reads features that are neither stored nor part of the job.
    """
    planned: list[BucketTask] = []
    for bucket, missing in sorted(state.todo.items()):
        for group in _groups(job):
            names = tuple(name for name in missing if name in group)
            derived = [n for n in names if isinstance(job.extractor(n), DerivedExtractor)]
            later = [n for n in derived if not set(job.extractor(n).reads) <= set(group)]
            for name in later:
                _check_upstream(job, name, bucket)
            if first := tuple(name for name in names if name not in later):
                planned.append(BucketTask(bucket, first, 0, state.failed[bucket]))
            if later:
                planned.append(BucketTask(bucket, tuple(later), 1, state.failed[bucket]))
    # The largest first, so that no long task is left for the end of the run.
    return sorted(planned, key=lambda t: (t.wave, -job.rows_by_bucket.count(t.bucket)))


def read_shard(job: Job, name: str, bucket: int) -> Shard | None:
    """The shard of one extractor and bucket; None where there is none yet.

    Raises ShardError where it can't be read, MismatchError where its header contradicts its path.
    """
    path = job.shard(name, bucket)
    if not path.exists():
        return None
    shard = Shard.open(path)
    place = (job.fingerprints[name], bucket, job.buckets)
    if (shard.header.fingerprint, shard.header.bucket, shard.header.buckets) != place:
        raise MismatchError(
            f"{path}: the shard belongs elsewhere in the store (its header has another fingerprint "
            "or bucket); move it away and extract again"
        )
    return shard


def item_states(
    job: Job,
    name: str,
    bucket: int,
    shard: Shard | None,
    damaged: Collection[str],
    failures: Container[Key],
    quarantined: Container[Key],
) -> ItemStates:
    """Sort the items of the job by their state in the shard and the ledger.

    An item in the shard counts, whatever its ledger entries; one that was made from other content
    (a changed caption, another file) does not, nor does one of `damaged`.
    """
    sources = source_digests(job, name, bucket)
    stream = job.stream(name)
    sets: dict[str, set[str]] = {count: set() for count in ItemStates.COUNTS}
    ids = () if shard is None else shard.ids
    position = {item: i for i, item in enumerate(ids) if item not in damaged}
    for item in job.items(name, bucket):
        i = position.get(item)
        if shard and i is not None and sources.get(item) in (None, shard.media_sha256[i]):
            sets["ok" if shard.status[i] is Status.OK else "empty"].add(item)
        elif (item, stream) in quarantined:
            sets["quarantined"].add(item)
        elif (item, stream) in failures:
            sets["failed"].add(item)
        else:
            sets["missing"].add(item)
    return ItemStates(**{count: frozenset(items) for count, items in sets.items()})


def source_digests(job: Job, name: str, bucket: int) -> dict[str, str]:
    """Item -> sha256 of what it will be made from, as far as that is known without decoding.

    For a video, its sha256 in the manifest; for a caption, that of its text; for derived features,
    that of the digests of the features they are derived from.
    """
    rows = job.rows_by_bucket[bucket]
    extractor = job.extractor(name)
    if isinstance(extractor, CaptionExtractor):
        return {c.id: sha256_hex(c.text.encode()) for c in captions_of(rows)}
    if isinstance(extractor, DerivedExtractor):
        parts: dict[str, list[str]] = {}
        for read in extractor.reads:
            try:
                shard = read_shard(job, read, bucket)
            except ShardError:
                shard = None
            if shard is not None:
                for item, digest in zip(shard.ids, shard.digests, strict=True):
                    parts.setdefault(item, []).append(digest)
        whole = len(extractor.reads)
        return {
            i: sha256_hex(canonical_json(d).encode()) for i, d in parts.items() if len(d) == whole
        }
    return {row.id: row.sha256 for row in rows if row.sha256 is not None}


def _groups(job: Job) -> list[tuple[str, ...]]:
    grouped = [name for group in job.config.groups for name in group]
    rest = tuple(name for name in job.names if name not in grouped)
    return [group for group in (*job.config.groups, rest) if group]


def _check_upstream(job: Job, name: str, bucket: int) -> None:
    for read in job.extractor(name).reads:
        if read not in job.names and not job.shard(read, bucket).exists():
            raise UsageError(
                f"--only {','.join(job.names)}: {name} reads {read}, and the store has no "
                f"{job.stream(read)}; add {read} to --only"
            )
