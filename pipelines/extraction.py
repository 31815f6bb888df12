"""Operations on a job, for the command line or a script: plan, extract, status, retry, verify."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2hf.damage import record_damage
from m2hf.errors import ShardError
from m2hf.layout import StoreLayout
from m2hf.ledger import DECODE, LedgerWriter, TimeSpent
from m2hf.ledger_view import LedgerView
from m2hf.pipelines.bucket import TaskResult
from m2hf.pipelines.executors import Executor
from m2hf.pipelines.job import Job
from m2hf.pipelines.plan import JobState, plan_tasks, read_job_state
from m2hf.pipelines.stored_items import StoredItems
from m2hf.shard import REPAIR, Shard, damage_message


@dataclass(frozen=True)
class RunStatus:
    """Progress of a job: counts per extractor, failures, remarks, and time per item. damaged:
    messages on shards that are damaged, or have damaged items; damaged_items: {id, extractor}."""

    counts: dict[str, dict[str, int]]
    failures: list[dict[str, Any]]
    remarks: list[dict[str, str]]
    spent: dict[str, tuple[int, TimeSpent]]
    damaged: list[str] = field(default_factory=list)
    damaged_items: list[dict[str, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """What `status --json` prints."""
        return {
            "extractors": self.counts,
            "failures": self.failures,
            "remarks": self.remarks,
            "seconds_per_item": {
                name: round(spent.wall_s / items, 4) for name, (items, spent) in self.spent.items()
            },
            "damaged": self.damaged,
            "damaged_items": self.damaged_items,
        }


def plan(job: Job, retry_damaged: bool = False) -> JobState:
    """What is stored and what is missing; writes nothing. retry_damaged: items that are recorded
    as damaged are missing."""
    return read_job_state(job, LedgerView.read(job.layout.ledger), retry_damaged)


def extract(job: Job, executor: Executor, state: JobState) -> Iterator[TaskResult]:
    """Extract what is missing in `state`; yields one result per task.

    Raises ResourceError where the run can't continue.
    """
    job.layout.record(job.buckets)
    yield from executor.run(job, plan_tasks(job, state))


def status(job: Job) -> RunStatus:
    """Count every item of the job from shards and ledger."""
    view = LedgerView.read(job.layout.ledger)
    state = read_job_state(job, view)
    streams: dict[str, str] = {job.stream(name): name for name in job.names}
    failures = [
        {"id": f.id, "extractor": streams[f.stream], "stage": f.stage, "class": f.error}
        | {"message": f.message, "attempt": f.attempt}
        for key, f in sorted(view.failures.items())
        if key in state.unresolved and key not in view.quarantined
    ] + [
        {"id": item, "extractor": streams[stream], "stage": "quarantine", "class": "Quarantined"}
        | {"message": why, "attempt": 2}
        for (item, stream), why in sorted(view.quarantined.items())
        if (item, stream) in state.unresolved
    ]
    remarks = [
        {"id": item, "extractor": streams[stream], "message": reason}
        for (item, stream), reason in sorted(state.remarks.items())
    ]
    spent = {
        streams.get(stream, stream): total
        for stream, total in view.spent.items()
        if stream in streams or stream == DECODE
    }
    damaged = [
        {"id": item, "extractor": streams[path.parent.name]}
        for path, items in state.damaged_items.items()
        for item in items
    ]
    messages = [*state.damaged, *state.damage_messages]
    return RunStatus(state.counts, failures, remarks, spent, messages, damaged)


def reset_failures(job: Job) -> int:
    """Make everything that failed or was quarantined eligible for a retry; returns how many."""
    view = LedgerView.read(job.layout.ledger)
    streams = {job.stream(name) for name in job.names}
    keys = [key for key in {**view.failures, **view.quarantined} if key[1] in streams]
    if keys:
        writer = LedgerWriter(job.layout.ledger)
        for item, stream in sorted(keys):
            writer.retry(item, [stream])
        writer.close()
    return len(keys)


def find_damage(job: Job) -> int:
    """Check every item that the job has stored, and record which are damaged; returns how many."""
    found = 0
    for name in job.names:
        for bucket in range(job.buckets):
            stored = StoredItems.check(job, name, bucket)
            stored.record()
            found += len(stored.damaged)
    return found


@dataclass(frozen=True)
class VerifiedShard:
    """A shard after every digest was checked. path: relative to the store; intact: number of items;
    damaged: ids of the others; problem: "", or what is wrong with the shard."""

    path: Path
    stream: str
    intact: int
    damaged: tuple[str, ...] = ()
    problem: str = ""


def verify(layout: StoreLayout, only: tuple[str, ...]) -> Iterator[VerifiedShard]:
    """Read every shard of the store, and check the digest of each item.

    Needs no weights and no media. Raises SchemaError for a shard of another version.
    """
    for stream in layout.streams():
        if stream.extractor not in only:
            continue
        for path in layout.shards(stream):
            place = path.relative_to(layout.root)
            try:
                shard = Shard.open(path)
            except ShardError as error:
                yield VerifiedShard(place, stream, 0, problem=str(error))
                continue
            damaged = shard.damaged()
            problem = f"{damage_message(path, damaged)}; {REPAIR}" if damaged else ""
            yield VerifiedShard(place, stream, len(shard) - len(damaged), damaged, problem)


def record(layout: StoreLayout, shards: Sequence[VerifiedShard]) -> None:
    """Record the damaged items that `verify` found, for later commands.

    Raises ResourceError where there are some and the store can't be written.
    """
    for shard in shards:
        record_damage(layout.root / shard.path, shard.damaged)
