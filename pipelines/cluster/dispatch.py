"""Tasks that are out on Dask workers, and their receipts as they come back.

Names and receipts travel, no arrays and no exceptions: what can't be unpickled would hang a run.
"""

import queue
import traceback
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from distributed import Client, Future, KilledWorker
from distributed.client import FutureCancelledError

from m2hf import errors
from m2hf.errors import MismatchError, ResourceError
from m2hf.ledger import LedgerView
from m2hf.pipelines.bucket import Receipt, run_task
from m2hf.pipelines.cluster.workers import Offers, Patience, needed
from m2hf.pipelines.job import Job, JobSpec
from m2hf.pipelines.plan import Task

_LOOK_S = 2.0  # how often a run that hears nothing looks whether there are workers


@dataclass(frozen=True)
class Broken:
    """An error of a worker as plain text."""

    kind: str
    message: str

    def rethrow(self) -> NoReturn:
        """Raise it here: as what it was if it is one of ours, else as a bug with its traceback."""
        ours = getattr(errors, self.kind, None)
        raise ours(self.message) if ours else RuntimeError(f"in a worker:\n{self.message}")


@dataclass(frozen=True)
class Sent:
    """A task that is out: what it asks a worker for, how many items were in quarantine when it
    was sent, and how often it was sent before."""

    task: Task
    asks: str
    quarantined: int
    again: int = 0


class Dispatch:
    """Sends tasks to the workers of `client`, and sends again what they died of."""

    def __init__(self, client: Client, job: Job, device: str, patience: Patience) -> None:
        self._client = client
        self._job = job
        self._device = device
        self._spec = job.for_workers(device)
        self._patience = patience
        self._run = uuid.uuid4().hex[:8]  # a scheduler that serves others, too, tells runs apart
        self._out: dict[Future, Sent] = {}
        self._back: queue.SimpleQueue[Future] = queue.SimpleQueue()

    def receipts(self, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """Do them all. Whatever ends it early, an interrupt too, tasks still out are cancelled:
        those that wait never start; a bucket that a worker is at is finished there, whole."""
        offers = Offers.of(self._client)
        quarantined = self._quarantined()
        try:
            for task in tasks:
                asks = offers.asked(needed(self._job, task, self._device))
                self._send(Sent(task, asks, quarantined))
            while self._out:
                try:
                    future = self._back.get(timeout=_LOOK_S)
                except queue.Empty:
                    self._patience.look({sent.asks for sent in self._out.values()})
                    continue
                receipt = self._receipt(future, self._out.pop(future))
                if receipt is not None:
                    yield receipt
        finally:
            if self._out and self._client.status == "running":
                self._client.cancel(list(self._out))

    def _send(self, sent: Sent) -> None:
        task = sent.task
        future = self._client.submit(
            _on_worker,
            self._spec,
            task,
            key=f"{'+'.join(task.names)}-{task.bucket}-{self._run}-{sent.again}",
            resources={sent.asks: 1} if sent.asks else None,
            pure=False,
        )
        self._out[future] = sent
        future.add_done_callback(self._back.put)

    def _receipt(self, future: Future, sent: Sent) -> Receipt | None:
        """What came back; None where it was sent again."""
        bucket = sent.task.bucket
        try:
            outcome = future.result()
        except KilledWorker as error:
            now = self._quarantined()
            if sent.again and now == sent.quarantined:
                raise ResourceError(
                    f"bucket {bucket}: its workers keep dying, and no single clip is to "
                    "blame; look for a lack of memory (fewer --workers?) and run again"
                ) from error
            self._send(replace(sent, quarantined=now, again=sent.again + 1))
            return None
        except FutureCancelledError as error:
            raise ResourceError(
                f"bucket {bucket}: the Dask scheduler is gone or dropped it ({error.reason}); "
                "run the same command again to go on"
            ) from error
        except Exception as error:
            raise MismatchError(
                f"bucket {bucket}: no worker could begin it: {type(error).__name__}: {error}; "
                "is the same m2hf installed on every worker?"
            ) from error
        if isinstance(outcome, Broken):
            outcome.rethrow()
        assert isinstance(outcome, Receipt)
        return outcome

    def _quarantined(self) -> int:
        return len(LedgerView.read_deaths(self._job.layout.ledger).quarantined)


def _on_worker(spec: JobSpec, task: Task) -> Receipt | Broken:
    try:
        return run_task(spec, task)
    except errors.M2hfError as error:
        return Broken(type(error).__name__, str(error))
    except Exception:  # noqa: BLE001 - it travels as text and is raised again by the driver
        return Broken("", traceback.format_exc())
