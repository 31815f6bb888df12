"""Workers of a Dask cluster: those that are started here, and what workers offer to tasks.

A worker offers `GPU` and `cpu` (Dask's resources), one of each in a process. A task asks for GPU
where it runs a network on a CUDA device, else for cpu. Where no worker declares a cpu, any worker
gets cpu tasks: who starts workers with no word on resources means all of them.
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
from m2hf.pipelines.plan import Task

GPU = "GPU"
CPU = "cpu"
_HERE = "127.0.0.1"


def needed(job: Job, task: Task, device: str) -> str:
    """GPU or CPU: what a worker must offer to do `task` on `device`."""
    network = any(job.extractor(name).network for name in task.names)
    return GPU if network and device.startswith("cuda") else CPU


def cuda_devices(device: str) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES can name in this process; () where `device` is no CUDA device."""
    if not device.startswith("cuda"):
        return ()
    if given := os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        return tuple(given.split(","))
    import torch

    return tuple(str(index) for index in range(torch.cuda.device_count()))


def start_workers(count: int, devices: Sequence[str]) -> Any:
    """A cluster of `count` processes of one thread on this machine, to be closed by `with`.

    Worker k sees device k alone, beginning again where there are more workers than `devices`.
    """
    resources = {CPU: 1, GPU: 1} if devices else {CPU: 1}
    common: dict[str, Any] = {
        "host": _HERE,
        "nthreads": 1,
        "resources": resources,
        "dashboard": False,
        "memory_limit": 0,  # a kill by size would look like a poison clip
        "silence_logs": logging.WARNING,
    }
    workers = {}
    for k in range(count):
        env = {"CUDA_VISIBLE_DEVICES": devices[k % len(devices)]} if devices else {}
        workers[k] = {"cls": Nanny, "options": {**common, "env": env}}
    # Its web server starts in any case: with a dashboard where bokeh is installed, and without an
    # address on Dask's default port, which another user of this machine may have.
    options = {"host": _HERE, "dashboard_address": f"{_HERE}:0"}
    scheduler = {"cls": Scheduler, "options": options}
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.WARNING)


def dashboard(client: Client) -> str:
    """The address of the scheduler's dashboard; "" where it has none (it needs bokeh)."""
    services = client.scheduler_info(n_workers=0)["services"]
    if "dashboard" not in services:
        return ""
    if client.run_on_scheduler(importlib.util.find_spec, "bokeh") is None:
        return ""  # there is a server, and all it shows is how to install bokeh
    return str(client.dashboard_link)


@dataclass(frozen=True)
class Offers:
    """What the workers of a scheduler declare, a set for each worker, and on which hosts."""

    resources: tuple[frozenset[str], ...]
    hosts: frozenset[str]

    @classmethod
    def of(cls, client: Client) -> "Offers":
        """As the scheduler knows them now; raises ResourceError where it doesn't answer."""
        try:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
        except OSError as error:
            raise ResourceError(
                f"the Dask scheduler doesn't answer any more ({error}); run the same command "
                "again to go on"
            ) from error
        return cls(
            tuple(frozenset(k for k, v in w["resources"].items() if v >= 1) for w in workers),
            frozenset(str(worker["host"]) for worker in workers),
        )

    def declare(self, resource: str) -> bool:
        """Whether any worker does."""
        return any(resource in offered for offered in self.resources)

    def asked(self, need: str) -> str:
        """What a task that needs this asks Dask for: "" is any worker."""
        return "" if need == CPU and not self.declare(CPU) else need

    def lack(self, asked: Iterable[str]) -> list[str]:
        """What no worker has of all that is asked for; "a worker" where there is none at all."""
        if not self.resources:
            return ["a worker"]
        return sorted({one for one in asked if one and not self.declare(one)})

    def __str__(self) -> str:
        declared = " and ".join(sorted(frozenset().union(*self.resources))) or "nothing by name"
        return (
            f"Dask workers: {len(self.resources)} on {len(self.hosts)} hosts, offering {declared}"
        )


class Patience:
    """Waits `wait_s` for workers that can do what is asked, since they may come later."""

    def __init__(self, client: Client, wait_s: float, say: Callable[[str], None]) -> None:
        self._client = client
        self._wait_s = wait_s
        self._say = say
        self._since: float | None = None

    def wait(self, needs: Callable[[Offers], Iterable[str]]) -> Offers:
        """The offers, once none of `needs` is lacking; raises UsageError when patience ends."""
        while True:
            offers = Offers.of(self._client)
            if self.enough(offers, needs(offers)):
                return offers
            time.sleep(min(0.2, self._wait_s))

    def look(self, asked: Iterable[str]) -> None:
        """To be called again and again while tasks are out; raises UsageError when it ends."""
        self.enough(Offers.of(self._client), asked)

    def enough(self, offers: Offers, asked: Iterable[str]) -> bool:
        """Whether nothing is lacking. Raises UsageError where something was for too long."""
        lacking = offers.lack(asked)
        now = time.monotonic()
        if not lacking:
            self._since = None
            return True
        what = f"no worker offers {' or '.join(lacking)}" if offers.resources else "no worker"
        if self._since is None:
            self._since = now
            self._say(f"{what}; waiting up to {self._wait_s:g} s")
        if now - self._since >= self._wait_s:
            raise UsageError(
                f"{what} after {self._wait_s:g} s ({offers}); start one with: "
                f'dask worker {self._client.scheduler.address} --nthreads 1 --resources "GPU=1 '
                'cpu=1" (without GPU=1 where there is none), or raise extract.cluster.wait_s'
            )
        return False
