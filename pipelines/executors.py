"""Executors run the tasks of a job: in this process, or as one share of an array job.

The executor for Dask workers is `pipelines/cluster/dask_executor.py`. All give equal bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from m2hf.errors import UsageError
from m2hf.pipelines.bucket import TaskResult, run_task
from m2hf.pipelines.job import Job
from m2hf.pipelines.plan import BucketTask


class Executor(Protocol):
    """Runs tasks, in any order within a wave, and yields a result for each.

    Raises ResourceError where the run can't continue.
    """

    def run(self, job: Job, tasks: Sequence[BucketTask]) -> Iterator[TaskResult]: ...


class SerialExecutor:
    """Runs one task after another, in this process."""

    def run(self, job: Job, tasks: Sequence[BucketTask]) -> Iterator[TaskResult]:
        for task in tasks:
            yield run_task(job.spec, task)


@dataclass(frozen=True)
class ArrayExecutor:
    """Runs the share of process `index` (0-based) of `count`: buckets with bucket % count == index.

    Shares are by bucket, not by position in the plan, since each process makes its own plan.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "ArrayExecutor":
        """From `i/n`; raises UsageError unless 0 <= i < n."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise UsageError(f"--array {text}: expected i/n with 0 <= i < n, such as 0/8 .. 7/8")
        return cls(int(index), int(count))

    def run(self, job: Job, tasks: Sequence[BucketTask]) -> Iterator[TaskResult]:
        yield from SerialExecutor().run(job, self.share(tasks))

    def share(self, tasks: Sequence[BucketTask]) -> list[BucketTask]:
        """The tasks of this process."""
        return [task for task in tasks if task.bucket % self.count == self.index]
