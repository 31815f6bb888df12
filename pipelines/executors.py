"""Who does the tasks: this process, a share of an array job, or Dask workers. Equal bytes.

Dask workers: `pipelines/cluster/dask_cluster.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from m2hf.errors import UsageError
from m2hf.pipelines.bucket import Receipt, run_task
from m2hf.pipelines.job import Job
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
