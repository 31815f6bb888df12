"""Operations on a job, for the command line or a script: plan, extract, status, retry, verify."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from m2hf.errors import ShardError
from m2hf.layout import StoreLayout
from m2hf.ledger import DECODE, LedgerView, LedgerWriter, TimeSpent
from m2hf.pipelines.bucket import TaskResult
from m2hf.pipelines.executors import Executor
from m2hf.pipelines.job import Job
from m2hf.pipelines.plan import JobState, plan_tasks, read_job_state
from m2hf.shard import Shard


@dataclass(frozen=True)
class RunStatus:
    """Progress of a job: counts per extractor, failures, remarks, and time per item."""

    counts: dict[str, dict[str, int]]
    failures: list[dict[str, Any]]
    remarks: list[dict[str, str]]
    spent: dict[str, tuple[int, TimeSpent]]
    damaged: list[str] = field(default_factory=list)

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
        }


def plan(job: Job) -> JobState:
    """What is stored and what is missing; writes nothing."""
    return read_job_state(job, LedgerView.read(job.layout.ledger))


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
    wanted = {
        (item, stream)
        for stream, name in streams.items()
        for bucket in range(job.buckets)
        for item in job.items(name, bucket)
    }
    stored = state.reasons
    failures = [
        {"id": f.id, "extractor": streams[f.stream], "stage": f.stage, "class": f.error}
        | {"message": f.message, "attempt": f.attempt}
        for key, f in sorted(view.failures.items())
        if key in wanted and key not in stored and key not in view.quarantined
    ] + [
        {"id": item, "extractor": streams[stream], "stage": "quarantine", "class": "Quarantined"}
        | {"message": why, "attempt": 2}
        for (item, stream), why in sorted(view.quarantined.items())
        if (item, stream) in wanted and (item, stream) not in stored
    ]
    remarks = [
        {"id": item, "extractor": streams[stream], "message": reason}
        for (item, stream), reason in sorted(stored.items())
        if reason and (item, stream) in wanted
    ]
    spent = {
        streams.get(stream, stream): total
        for stream, total in view.spent.items()
        if stream in streams or stream == DECODE
    }
    return RunStatus(state.counts, failures, remarks, spent, state.damaged)


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


def verify(layout: StoreLayout, only: tuple[str, ...]) -> Iterator[tuple[str, int, str]]:
    """Read every shard of the store and check each digest: (file, items, "" or what is wrong).

    Needs no weights and no media. Raises SchemaError for a shard of another version.
    """
    for stream in layout.streams():
        if stream.extractor not in only:
            continue
        for path in layout.shards(stream):
            name = str(path.relative_to(layout.root))
            try:
                shard = Shard.open(path)
                shard.verify()
            except ShardError as error:
                yield name, 0, str(error)
            else:
                yield name, len(shard), ""
