"""Record the outcome of each item of a task: in the ledger, and the features to write."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from m2hf.errors import ClipError, ExtractorError, M2hfError, MediaError
from m2hf.extract.inference.clock import CLOCK
from m2hf.features import Features
from m2hf.ledger import LedgerWriter, TimeSpent
from m2hf.pipelines.job import Job
from m2hf.shard import ShardItem
from m2hf.shortage import resource_error

ATTEMPTS = 2


class Outcomes:
    """Collects the items of one task; every start and end of work on an item is reported here.

    concurrent: item -> streams of the items that other threads of this process are working on;
    if the process dies, any of them may be the cause.
    """

    def __init__(self, job: Job, names: Sequence[str], ledger: LedgerWriter) -> None:
        self._job = job
        self._ledger = ledger
        self.done: dict[str, list[ShardItem]] = {name: [] for name in names}
        self.concurrent: dict[str, list[str]] = {}

    def streams(self, names: Sequence[str]) -> list[str]:
        return [self._job.stream(name) for name in names]

    def started(
        self, item: str, names: Sequence[str], stage: str, also: Sequence[str] = ()
    ) -> None:
        """also: other items in the same batch."""
        streams = self.streams(names)
        concurrent = {**self.concurrent, **dict.fromkeys(also, streams)}
        concurrent.pop(item, None)
        self._ledger.started(item, streams, stage, concurrent)

    def decoded(self, item: str, seconds: float) -> None:
        self._ledger.decoded(item, round(seconds, 4))

    def failed(
        self,
        item: str,
        names: Sequence[str],
        stage: str,
        error: ClipError,
        wall_s: float = 0.0,
        attempt: int = 1,
    ) -> None:
        self._ledger.failed(item, self.streams(names), stage, error, wall_s, attempt)

    def keep(self, name: str, item: str, features: Features, source: str, spent: TimeSpent) -> None:
        """Record features, which may be EMPTY with a reason; `source` is the sha256 of what they
        were made from."""
        status, reason = features.status.value, features.reason
        self._ledger.done(item, self._job.stream(name), status, spent, reason)
        self.done[name].append(ShardItem(item, features, source))

    def attempt(self, item: str, name: str, source: str, work: Callable[[], Features]) -> None:
        """Run `work`, once more if it fails, and record its features or the failure."""
        for attempt in range(1, ATTEMPTS + 1):
            self.started(item, [name], "extract")
            watch = Stopwatch()
            try:
                with as_m2hf_errors(name):
                    features = work()
            except ClipError as error:
                if isinstance(error, MediaError) or attempt == ATTEMPTS:
                    self.failed(item, [name], "extract", error, watch.stop().wall_s, attempt)
                    return
            else:
                self.keep(name, item, features, source, watch.stop())
                return


class Stopwatch:
    """Measures seconds since its construction, and how many of them models computed."""

    def __init__(self) -> None:
        CLOCK.take()
        self._began = time.perf_counter()

    def stop(self) -> TimeSpent:
        return TimeSpent(time.perf_counter() - self._began, CLOCK.take())


@contextmanager
def as_m2hf_errors(name: str) -> Iterator[None]:
    """Raise what a library raises as ExtractorError; what the machine lacks as ResourceError."""
    try:
        yield
    except M2hfError:
        raise
    except Exception as error:
        if (lacking := resource_error(error, name)) is not None:
            raise lacking from error
        raise ExtractorError(f"{type(error).__name__}: {error}") from error
