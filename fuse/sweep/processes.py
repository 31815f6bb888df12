"""Processes that do the jobs of a sweep: this one, or several workers on this machine."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from m2hf.fuse.sweep.job import Answer, answer
from m2hf.keys import canonical_json

# Does jobs, given as lines, in any order; yields the number of each with its answer.
Runner = Callable[[Sequence[str]], Iterator[tuple[int, str]]]


def in_this_process(jobs: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Do one job after another."""
    for number, job in enumerate(jobs):
        yield number, answer(job)


@dataclass
class WorkerProcesses:
    """A pool of worker processes. Where one dies, its job has failed, and another takes its place;
    all of them end with this process, however it ends."""

    count: int
    _local: threading.local = field(default_factory=threading.local, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _closed: bool = field(default=False, init=False)
    _started: list["subprocess.Popen[str]"] = field(default_factory=list, init=False)

    def __call__(self, jobs: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Do `jobs`; yields each job's number and answer as they end."""
        try:
            with ThreadPoolExecutor(min(self.count, max(1, len(jobs)))) as threads:
                pending = {threads.submit(self._do, job): n for n, job in enumerate(jobs)}
                try:
                    for future in as_completed(pending):
                        yield pending[future], future.result()
                finally:
                    threads.shutdown(wait=False, cancel_futures=True)
                    self._kill()
        finally:
            for process in self._started:
                with suppress(BrokenPipeError), process:  # closes its pipes
                    pass

    def _do(self, job: str) -> str:
        """The answer of this thread's worker, which is started when it is needed."""
        worker: subprocess.Popen[str] | None = getattr(self._local, "worker", None)
        if worker is None:
            worker = self._local.worker = self._start()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            print(job, file=worker.stdin, flush=True)
            line = worker.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return line
        self._local.worker = None
        return canonical_json(asdict(Answer(_death(worker.wait()))))

    def _kill(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._started:
                process.kill()

    def _start(self) -> "subprocess.Popen[str]":
        with self._lock:
            if self._closed:
                raise CancelledError
            worker = subprocess.Popen(
                [sys.executable, "-m", "m2hf.fuse.sweep.worker_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                start_new_session=True,  # an interrupt goes to this process, which ends them
            )
            self._started.append(worker)
            return worker


def _death(code: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"its process {how}; run the sweep again to try it again, with fewer --workers"
