"""A Dask scheduler and workers as separate processes, which tests can stop, freeze and kill."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

LIMIT_S = 240.0  # for what takes seconds where the machine is idle


def until(true: Callable[[], Any], what: str) -> None:
    """Wait for a condition; fails with `what` after LIMIT_S."""
    end = time.monotonic() + LIMIT_S
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"timed out waiting for {what}")
        time.sleep(0.02)


class DaskProcesses:
    """A scheduler on this host, and the workers that a test starts."""

    def __init__(self, folder: Path, protocol: str = "tcp", **environment: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        file = folder / "address.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--protocol", protocol]
        options += ["--scheduler-file", str(file)]
        self.scheduler = self._run(
            "distributed.cli.dask_scheduler", *options, environment=environment
        )
        until(lambda: file.exists() and file.read_bytes().endswith(b"}"), "a scheduler")
        self.client = Client(scheduler_file=str(file), timeout=LIMIT_S)
        self.address = str(self.client.scheduler.address)

    def start_worker(
        self, name: str, *options: str, resources: str = "cpu=1", **environment: str
    ) -> "subprocess.Popen[bytes]":
        """Start a worker, and wait until it has registered with the scheduler."""
        given = [self.address, "--name", name, "--nthreads", "1", "--no-dashboard", *options]
        given += ["--memory-limit", "0", "--local-directory", str(self._folder / name)]
        given += ["--resources", resources] if resources else []
        process = self._run("distributed.cli.dask_worker", *given, environment=environment)
        until(lambda: name in self.workers(), f"worker {name}")
        return process

    def workers(self) -> dict[str, str]:
        """Name -> address of the registered workers."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        return {str(worker["name"]): address for address, worker in workers.items()}

    def close(self) -> None:
        self.client.close()
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _run(
        self, module: str, *options: str, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        log = (self._folder / f"{len(self._processes)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *options],
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)
        return process


@contextlib.contextmanager
def dask_processes(
    folder: Path, protocol: str = "tcp", **environment: str
) -> Iterator[DaskProcesses]:
    """DaskProcesses that are ended with the context."""
    cluster = DaskProcesses(folder, protocol, **environment)
    try:
        yield cluster
    finally:
        cluster.close()
