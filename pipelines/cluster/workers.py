"""Workers of a Dask cluster: start local ones, and match their resources to tasks.

A worker declares the Dask resources `GPU` and `cpu`, one of each per process. A task requires GPU
if it runs a network on a CUDA device, else cpu. Where no worker declares `cpu`, any worker gets cpu
tasks, so that workers started without `--resources` can be used.
"""

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from distributed import Client, Nanny, Scheduler, SpecCluster

from m2hf.errors import ResourceError, UsageError
from m2hf.pipelines.job import Job
from m2hf.pipelines.plan import BucketTask

GPU = "GPU"
CPU = "cpu"
_HERE = "127.0.0.1"


def required_resource(job: Job, task: BucketTask, device: str) -> str:
    """GPU or CPU: the resource that a worker needs to run `task` on `device`."""
    network = any(job.extractor(name).network for name in task.names)
    return GPU if network and device.startswith("cuda") else CPU


def cuda_devices(device: str) -> tuple[str, ...]:
    """Names for CUDA_VISIBLE_DEVICES in this process; () where `device` is not a CUDA device."""
    if not device.startswith("cuda"):
        return ()
    if given := os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        return tuple(given.split(","))
    import torch

    return tuple(str(index) for index in range(torch.cuda.device_count()))


def start_workers(count: int, devices: Sequence[str]) -> Any:
    """A cluster of `count` single-thread processes on this machine; a context manager.

    Worker k sees only device k modulo the number of `devices`.
    """
    resources = {CPU: 1, GPU: 1} if devices else {CPU: 1}
    common: dict[str, Any] = {
        "host": _HERE,
        "nthreads": 1,
        "resources": resources,
        "dashboard": False,
        "memory_limit": 0,  # a kill by memory size would look like a poison clip
        "silence_logs": logging.WARNING,
    }
    workers = {}
    for k in range(count):
        env = {"CUDA_VISIBLE_DEVICES": devices[k % len(devices)]} if devices else {}
        workers[k] = {"cls": Nanny, "options": {**common, "env": env}}
    # The scheduler's web server starts in any case; without an address it would listen on Dask's
    # default port, which another user of this machine may be using.
    options = {"host": _HERE, "dashboard_address": f"{_HERE}:0"}
    scheduler = {"cls": Scheduler, "options": options}
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.WARNING)


def dashboard_address(client: Client) -> str:
    """The address of the scheduler's dashboard; "" where it has none (it needs bokeh)."""
    services = client.scheduler_info(n_workers=0)["services"]
    if "dashboard" not in services:
        return ""
    if client.run_on_scheduler(importlib.util.find_spec, "bokeh") is None:
        return ""  # the page would only explain how to install bokeh
    return str(client.dashboard_link)


@dataclass(frozen=True)
class WorkerResources:
    """The resources that the workers of a scheduler declare, a set per worker, and their hosts."""

    resources: tuple[frozenset[str], ...]
    hosts: frozenset[str]

    @classmethod
    def of(cls, client: Client) -> "WorkerResources":
        """The current workers; raises ResourceError where the scheduler doesn't answer."""
        try:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
        except OSError as error:
            raise ResourceError(
                f"the Dask scheduler doesn't answer any more ({error}); run the same command "
                "again to resume"
            ) from error
        return cls(
            tuple(frozenset(k for k, v in w["resources"].items() if v >= 1) for w in workers),
            frozenset(str(worker["host"]) for worker in workers),
        )

    def any_has(self, resource: str) -> bool:
        """Whether any worker declares it."""
        return any(resource in declared for declared in self.resources)

    def request_for(self, required: str) -> str:
        """The resource that a task requests from Dask; "" for any worker."""
        return "" if required == CPU and not self.any_has(CPU) else required

    def missing(self, requested: Iterable[str]) -> list[str]:
        """Requested resources that no worker declares; "a worker" where there are no workers."""
        if not self.resources:
            return ["a worker"]
        return sorted({one for one in requested if one and not self.any_has(one)})

    def __str__(self) -> str:
        declared = " and ".join(sorted(frozenset().union(*self.resources))) or "no named resource"
        return (
            f"Dask workers: {len(self.resources)} on {len(self.hosts)} hosts, offering {declared}"
        )


class WorkerWaiter:
    """Waits up to `wait_s` for workers with the requested resources to join."""

    def __init__(self, client: Client, wait_s: float, report: Callable[[str], None]) -> None:
        self._client = client
        self._wait_s = wait_s
        self._report = report
        self._since: float | None = None

    def wait(self, requested: Callable[[WorkerResources], Iterable[str]]) -> WorkerResources:
        """Block until no requested resource is missing; raises UsageError after `wait_s`."""
        while True:
            offered = WorkerResources.of(self._client)
            if self.satisfied(offered, requested(offered)):
                return offered
            time.sleep(min(0.2, self._wait_s))

    def check(self, requested: Iterable[str]) -> None:
        """Call regularly while tasks are pending; raises UsageError after `wait_s`."""
        self.satisfied(WorkerResources.of(self._client), requested)

    def satisfied(self, offered: WorkerResources, requested: Iterable[str]) -> bool:
        """Whether nothing is missing; raises UsageError if something was missing for `wait_s`."""
        missing = offered.missing(requested)
        now = time.monotonic()
        if not missing:
            self._since = None
            return True
        what = f"no worker offers {' or '.join(missing)}" if offered.resources else "no worker"
        if self._since is None:
            self._since = now
            self._report(f"{what}; waiting up to {self._wait_s:g} s")
        if now - self._since >= self._wait_s:
            raise UsageError(
                f"{what} after {self._wait_s:g} s ({offered}); start one with: "
                f'dask worker {self._client.scheduler.address} --nthreads 1 --resources "GPU=1 '
                'cpu=1" (without GPU=1 on a machine that has none), or raise extract.cluster.wait_s'
            )
        return False
