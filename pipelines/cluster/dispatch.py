"""Send tasks to Dask workers and collect their results.

Only names and counts are transferred, no arrays and no exceptions: an exception that can't be
unpickled would hang the run.
"""

import queue
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from distributed import Client, Future, KilledWorker
from distributed.client import FutureCancelledError

from m2hf.errors import MismatchError, ResourceError
from m2hf.ledger_view import Deaths
from m2hf.pipelines.bucket import TaskResult, run_task
from m2hf.pipelines.cluster.workers import WorkerResources, WorkerWaiter, required_resource
from m2hf.pipelines.job import Job, JobSpec
from m2hf.pipelines.plan import BucketTask
from m2hf.pipelines.worker_error import WorkerError

_POLL_S = 2.0  # how often the workers are checked while no result arrives


@dataclass(frozen=True)
class SentTask:
    """A pending task. resource: what it requests from a worker, "" for any; quarantined: number of
    items in quarantine when it was sent; resends: how often it was sent before."""

    task: BucketTask
    resource: str
    quarantined: int
    resends: int = 0


class TaskDispatcher:
    """Sends tasks to the workers of `client`, and sends a task again if its worker died."""

    def __init__(self, client: Client, job: Job, device: str, waiter: WorkerWaiter) -> None:
        self._client = client
        self._job = job
        self._device = device
        self._spec = job.for_workers(device)
        self._waiter = waiter
        self._run = uuid.uuid4().hex[:8]  # keeps keys of different runs on one scheduler apart
        self._pending: dict[Future, SentTask] = {}
        self._finished: queue.SimpleQueue[Future] = queue.SimpleQueue()

    def results(self, tasks: Sequence[BucketTask]) -> Iterator[TaskResult]:
        """Run all tasks and yield their results. If it ends early, also by an interrupt, pending
        tasks are cancelled: those in the queue never start, and a worker finishes the bucket that
        it has started."""
        offered = WorkerResources.of(self._client)
        quarantined = self._quarantined()
        try:
            for task in tasks:
                required = required_resource(self._job, task, self._device)
                self._send(SentTask(task, offered.request_for(required), quarantined))
            while self._pending:
                try:
                    future = self._finished.get(timeout=_POLL_S)
                except queue.Empty:
                    self._waiter.check({sent.resource for sent in self._pending.values()})
                    continue
                result = self._result(future, self._pending.pop(future))
                if result is not None:
                    yield result
        finally:
            if self._pending and self._client.status == "running":
                self._client.cancel(list(self._pending))

    def _send(self, sent: SentTask) -> None:
        task = sent.task
        future = self._client.submit(
            _on_worker,
            self._spec,
            task,
            key=f"{'+'.join(task.names)}-{task.bucket}-{self._run}-{sent.resends}",
            resources={sent.resource: 1} if sent.resource else None,
            pure=False,
        )
        self._pending[future] = sent
        future.add_done_callback(self._finished.put)

    def _result(self, future: Future, sent: SentTask) -> TaskResult | None:
        """The result of a finished task; None if the task was sent again."""
        bucket = sent.task.bucket
        try:
            outcome = future.result()
        except KilledWorker as error:
            quarantined = self._quarantined()
            if sent.resends and quarantined == sent.quarantined:
                raise ResourceError(
                    f"bucket {bucket}: its workers keep dying, and no single clip is the "
                    "cause; check whether memory runs out (fewer --workers?) and run again"
                ) from error
            self._send(replace(sent, quarantined=quarantined, resends=sent.resends + 1))
            return None
        except FutureCancelledError as error:
            raise ResourceError(
                f"bucket {bucket}: the Dask scheduler is gone or dropped the task "
                f"({error.reason}); run the same command again to resume"
            ) from error
        except Exception as error:
            raise MismatchError(
                f"bucket {bucket}: no worker could start the task: {type(error).__name__}: "
                f"{error}; is the same m2hf installed on every worker?"
            ) from error
        if isinstance(outcome, WorkerError):
            outcome.rethrow()
        assert isinstance(outcome, TaskResult)
        return outcome

    def _quarantined(self) -> int:
        return len(Deaths(self._job.layout.ledger).view().quarantined)


def _on_worker(spec: JobSpec, task: BucketTask) -> TaskResult | WorkerError:
    try:
        return run_task(spec, task)
    except Exception as error:  # noqa: BLE001 - sent as text and raised again in the driver
        return WorkerError.of(error)
