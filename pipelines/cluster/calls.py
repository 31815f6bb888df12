"""Calls of a function from text to text, on the workers of an existing Dask scheduler."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from distributed import KilledWorker, as_completed
from distributed.client import FutureCancelledError

from m2hf.errors import MismatchError, ResourceError, first_line
from m2hf.pipelines.cluster.connection import connect


@dataclass(frozen=True)
class DaskCalls:
    """scheduler: its address; function: importable by every worker; all see the same folders."""

    scheduler: str
    function: Callable[[str], str]

    def __call__(self, arguments: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yields the number of each argument with the result, in the order in which they end.

        If it ends early, what has not begun is cancelled. Raises UsageError where no scheduler
        answers, ResourceError where workers keep dying or the scheduler is gone, MismatchError for
        a worker that can't make the call.
        """
        run = uuid.uuid4().hex[:8]  # keeps keys of different runs on one scheduler apart
        with connect(self.scheduler) as client:
            futures = {
                client.submit(self.function, text, key=f"call-{run}-{number}", pure=False): number
                for number, text in enumerate(arguments)
            }
            try:
                for future in as_completed(list(futures)):
                    yield futures[future], _result(future.result)
            finally:
                if client.status == "running":
                    client.cancel(list(futures))


def _result(result: Callable[[], str]) -> str:
    try:
        return result()
    except KilledWorker as error:
        raise ResourceError(
            "workers keep dying; check whether memory runs out, and run the same command again to "
            "resume"
        ) from error
    except FutureCancelledError as error:
        raise ResourceError(
            f"the Dask scheduler is gone or dropped a task ({error.reason}); run the same command "
            "again to resume"
        ) from error
    except Exception as error:
        raise MismatchError(
            f"a worker failed: {type(error).__name__}: {first_line(error)}; is the same m2hf "
            "installed on every worker?"
        ) from error
