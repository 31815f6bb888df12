"""Who does the tasks: this process, Dask workers, or a share of an array job. Equal bytes."""

import traceback
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from m2hf import errors
from m2hf.errors import ResourceError, UsageError
from m2hf.ledger import LedgerView
from m2hf.pipelines.bucket import Receipt, run_task
from m2hf.pipelines.job import Job, JobSpec
from m2hf.pipelines.plan import Task


class Executor(Protocol):
    """Does tasks in any order and gives a receipt for each. Raises ResourceError to stop a run."""

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]: ...


class Serial:
    """One task after another, in this process."""

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        for task in tasks:
            yield run_task(job.spec, task)


@dataclass(frozen=True)
class Array:
    """The share of process `index` (0-based) of `count`: the buckets that leave it as remainder.

    By bucket, not by place in the plan, since each process of an array job plans on its own.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Array":
        """From `i/n`; raises UsageError unless 0 <= i < n."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise UsageError(f"--array {text}: expected i/n with 0 <= i < n, such as 0/8 .. 7/8")
        return cls(int(index), int(count))

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        yield from Serial().run(job, self.share(tasks))

    def share(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks that this process does."""
        return [task for task in tasks if task.bucket % self.count == self.index]


@dataclass(frozen=True)
class DaskCluster:
    """Worker processes of one thread each: `workers` new ones here, or those of `scheduler`.

    A worker that dies takes its bucket with it, which another one does again; what killed two
    of them is left out by then (see the ledger), so a poison clip can't stop the run.
    """

    workers: int = 0
    scheduler: str = ""

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        import dask
        from distributed import Client, LocalCluster

        # The ledger decides when to give up on a clip; Dask would give up on the bucket.
        with dask.config.set({"distributed.scheduler.allowed-failures": 3}):
            if self.scheduler:
                try:
                    with Client(self.scheduler, timeout=30) as client:
                        yield from _waves(client, job, tasks)
                except OSError as error:
                    raise UsageError(
                        f"--scheduler {self.scheduler}: no Dask scheduler answers there: {error}"
                    ) from error
                return
            with (
                LocalCluster(
                    n_workers=self.workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    memory_limit=0,  # a kill by size would look like a poison clip
                ) as cluster,
                Client(cluster) as client,
            ):
                yield from _waves(client, job, tasks)


@dataclass(frozen=True)
class Broken:
    """An error of a worker as plain text: exceptions that can't be pickled would hang the run."""

    kind: str
    message: str

    def rethrow(self) -> NoReturn:
        """Raise it here: as what it was if it is one of ours, else as a bug with its traceback."""
        ours = getattr(errors, self.kind, None)
        raise ours(self.message) if ours else RuntimeError(f"in a worker:\n{self.message}")


def _on_worker(spec: JobSpec, task: Task) -> Receipt | Broken:
    try:
        return run_task(spec, task)
    except errors.M2hfError as error:
        return Broken(type(error).__name__, str(error))
    except Exception:  # noqa: BLE001 - it travels as text and is raised again by the driver
        return Broken("", traceback.format_exc())


def _waves(client: object, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
    for wave in sorted({task.wave for task in tasks}):
        yield from _submit(client, job, [task for task in tasks if task.wave == wave])


def _submit(client: object, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
    from distributed import Client, KilledWorker, as_completed

    assert isinstance(client, Client)
    quarantined = len(LedgerView.read_deaths(job.layout.ledger).quarantined)

    run = uuid.uuid4().hex[:8]  # a scheduler that serves others, too, tells runs apart

    def submit(task: Task, again: int = 0) -> object:
        name = f"{'+'.join(task.names)}-{task.bucket}-{run}-{again}"
        return client.submit(_on_worker, job.spec, task, key=name, pure=False)

    running = {submit(task): (task, 0) for task in tasks}
    pending = as_completed(list(running))
    for future in pending:
        task, again = running.pop(future)
        try:
            outcome = future.result()
        except KilledWorker as error:
            now = len(LedgerView.read_deaths(job.layout.ledger).quarantined)
            if now == quarantined and again:
                raise ResourceError(
                    f"bucket {task.bucket}: its workers keep dying, and no single clip is to "
                    "blame; look for a lack of memory (fewer --workers?) and run again"
                ) from error
            quarantined = now
            later = submit(task, again + 1)
            running[later] = (task, again + 1)
            pending.add(later)
        else:
            if isinstance(outcome, Broken):
                outcome.rethrow()
            yield outcome
