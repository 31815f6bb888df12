"""Dask workers do the tasks: new ones on this machine, or those of a scheduler that exists."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import dask
from distributed import Client

from m2hf.errors import UsageError
from m2hf.pipelines.bucket import Receipt
from m2hf.pipelines.cluster.dispatch import Dispatch
from m2hf.pipelines.cluster.workers import (
    GPU,
    Patience,
    cuda_devices,
    dashboard,
    needed,
    start_workers,
)
from m2hf.pipelines.job import Job
from m2hf.pipelines.plan import Task

_CONNECT_S = 30


@dataclass(frozen=True)
class DaskCluster:
    """Worker processes of one thread each: `workers` new ones here, or those of `scheduler`.

    A worker that dies or freezes takes its bucket with it, which another one does again; what
    killed two of them is left out by then (see the ledger), so a poison clip can't stop the run.
    say: told in a line what a person should know while it runs.
    """

    workers: int = 0
    scheduler: str = ""
    say: Callable[[str], None] = print

    def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """Raises UsageError where no worker can do the tasks, MismatchError for a worker with
        other versions, ResourceError to stop a run; whatever ends it, its tasks are cancelled."""
        with self._client(job) as client:
            patience = Patience(client, job.config.cluster.wait_s, self.say)
            device = self._device(job, patience, tasks)
            needs = {needed(job, task, device) for task in tasks}
            offers = patience.wait(lambda offers: {offers.asked(need) for need in needs})
            page = dashboard(client) or "none"
            self.say(f"{offers}; features on {device}; dashboard: {page}")
            for wave in sorted({task.wave for task in tasks}):
                dispatch = Dispatch(client, job, device, patience)
                yield from dispatch.receipts([task for task in tasks if task.wave == wave])

    @contextmanager
    def _client(self, job: Job) -> Iterator[Client]:
        # That the scheduler is gone is said by us in a line, and by this logger in a traceback.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        if self.scheduler:
            try:
                client = Client(self.scheduler, timeout=_CONNECT_S)
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"--scheduler {self.scheduler}: no Dask scheduler answers there: {error}"
                ) from error
            with client:
                yield client
            return
        settings = {
            # The ledger decides when to give up on a clip; Dask would give up on the bucket.
            "distributed.scheduler.allowed-failures": 3,
            "distributed.scheduler.worker-ttl": f"{job.config.cluster.worker_ttl_s} s",
            # Looking at each thread's stack a hundred times a second takes 8 % of a core a worker.
            "distributed.worker.profile.enabled": False,
            "distributed.admin.system-monitor.interval": "5s",
        }
        with (
            dask.config.set(settings),
            start_workers(self.workers, cuda_devices(job.device)) as cluster,
            Client(cluster) as client,
        ):
            yield client

    def _device(self, job: Job, patience: Patience, tasks: Sequence[Task]) -> str:
        """One device for all workers: `auto` in each of them would mix two in one store."""
        if job.config.device != "auto" or not self.scheduler:
            return job.device
        offers = patience.wait(lambda _: ())
        networks = any(needed(job, task, "cuda") == GPU for task in tasks)
        return "cuda" if networks and offers.declare(GPU) else "cpu"
