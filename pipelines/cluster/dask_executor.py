"""Run tasks on Dask workers: started on this machine, or those of an existing scheduler."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import dask
from distributed import Client

from m2hf.pipelines.bucket import TaskResult
from m2hf.pipelines.cluster.connection import connect, quiet_loss
from m2hf.pipelines.cluster.dispatch import TaskDispatcher
from m2hf.pipelines.cluster.workers import (
    GPU,
    WorkerWaiter,
    cuda_devices,
    dashboard_address,
    required_resource,
    start_workers,
)
from m2hf.pipelines.job import Job
from m2hf.pipelines.plan import BucketTask


@dataclass(frozen=True)
class DaskExecutor:
    """Runs tasks on `workers` processes started here, or on those of the Dask `scheduler`.

    If a worker dies or freezes, its bucket is sent to another one, which tries the clips that were
    in work alone (see `pipelines/trial.py`), so a poison clip can't stop the run.
    report: receives status lines for the user.
    """

    workers: int = 0
    scheduler: str = ""
    report: Callable[[str], None] = print

    def run(self, job: Job, tasks: Sequence[BucketTask]) -> Iterator[TaskResult]:
        """Run the tasks, wave by wave; tasks that are pending when it ends early are cancelled.

        Raises UsageError where no worker can run the tasks, MismatchError for a worker with other
        versions, ResourceError where the run can't continue.
        """
        with self._client(job) as client:
            waiter = WorkerWaiter(client, job.config.cluster.wait_s, self.report)
            device = self._device(job, waiter, tasks)
            required = {required_resource(job, task, device) for task in tasks}
            offered = waiter.wait(lambda offered: {offered.request_for(one) for one in required})
            address = dashboard_address(client) or "none"
            self.report(f"{offered}; features on {device}; dashboard: {address}")
            for wave in sorted({task.wave for task in tasks}):
                dispatcher = TaskDispatcher(client, job, device, waiter)
                yield from dispatcher.results([task for task in tasks if task.wave == wave])

    @contextmanager
    def _client(self, job: Job) -> Iterator[Client]:
        quiet_loss()
        if self.scheduler:
            with connect(self.scheduler) as client:
                yield client
            return
        settings = {
            # The ledger decides when a clip is given up; Dask would give up the whole bucket.
            "distributed.scheduler.allowed-failures": 3,
            "distributed.scheduler.worker-ttl": f"{job.config.cluster.worker_ttl_s} s",
            # Sampling each thread's stack a hundred times a second takes 8 % of a core per worker.
            "distributed.worker.profile.enabled": False,
            "distributed.admin.system-monitor.interval": "5s",
        }
        with (
            dask.config.set(settings),
            start_workers(self.workers, cuda_devices(job.device)) as cluster,
            Client(cluster) as client,
        ):
            yield client

    def _device(self, job: Job, waiter: WorkerWaiter, tasks: Sequence[BucketTask]) -> str:
        """One device for all workers: `auto` in each of them could mix two kinds in one store."""
        if job.config.device != "auto" or not self.scheduler:
            return job.device
        offered = waiter.wait(lambda _: ())
        networks = any(required_resource(job, task, "cuda") == GPU for task in tasks)
        return "cuda" if networks and offered.any_has(GPU) else "cpu"
