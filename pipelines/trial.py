"""Tries suspects alone, one after another, in a child process whose death is evidence.

A clip that was in work when a process ended is no more than a suspect: the job may have been
killed, or the machine. If the child dies at a clip that it tries alone, and this process still
lives a moment later, the clip did it. The bucket's shards are written after each suspect, so that
a death costs no more than the clip.
"""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from m2hf.errors import ResourceError
from m2hf.ledger import LedgerWriter
from m2hf.ledger_events import last_event
from m2hf.pipelines.job import JobSpec
from m2hf.pipelines.plan import BucketTask
from m2hf.pipelines.worker_error import WorkerError

_GRACE_S = 1.0  # in which a kill of the whole job reaches this process, too
_REQUESTS_TO_END = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}


@dataclass(frozen=True)
class TrialRequest:
    """What the child is asked to do: the missing features of `items`, of a task's extractors."""

    spec: JobSpec
    task: BucketTask
    items: tuple[str, ...]

    def line(self) -> str:
        """ASCII, without a line break."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, line: str) -> Self:
        """From what `line` returned."""
        given = _tuples(json.loads(line))
        return cls(JobSpec(**given["spec"]), BucketTask(**given["task"]), given["items"])


def try_alone(request: TrialRequest, ledger: LedgerWriter) -> None:
    """Give each item its outcome, or, where its process dies, a death in `ledger` and another trial
    until it is in quarantine.

    Raises ResourceError where the child dies at no item, or is asked to end.
    """
    left = request.items
    while left:
        death = _run_child(TrialRequest(request.spec, request.task, left), ledger.path.parent)
        if death is None:
            return
        ledger.died(death.item, death.streams, death.stage, death.how)
        left = left[left.index(death.item) :]


@dataclass(frozen=True)
class _Death:
    """Where a child died, and by which signal or exit code."""

    item: str
    streams: list[str]
    stage: str
    how: str


def _run_child(request: TrialRequest, ledger_folder: Path) -> _Death | None:
    """None where it has finished."""
    command = [sys.executable, "-P", "-m", "m2hf.pipelines.trial_process"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8") as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            try:
                child.stdin.write(request.line() + "\n")
                child.stdin.flush()  # and left open: the child ends when it is closed
            except BrokenPipeError:  # it died at once
                with suppress(BrokenPipeError):
                    child.stdin.close()
            file = child.stdout.readline().strip()
            answer = child.stdout.readline()
            code = child.wait()
        finally:
            child.kill()
    if answer:
        error = WorkerError(**json.loads(answer))
        if error.message:
            error.rethrow()
        return None
    names = {-number: number.name for number in signal.Signals}
    how = names.get(code, f"exit code {code}")
    if -code in _REQUESTS_TO_END:
        raise ResourceError(
            f"{how} ended the process that tried clips alone; run the same command again to resume"
        )
    time.sleep(_GRACE_S)
    event = last_event(ledger_folder / file) if file else {}
    if event.get("event") != "started":
        raise ResourceError(
            f"bucket {request.task.bucket}: the process that tries clips alone died at none of "
            f"them ({how}); check whether memory runs out, and run the same command again"
        )
    return _Death(event["id"], event["streams"], event["stage"], how)


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, as JobSpec and BucketTask have them."""
    if isinstance(value, dict):
        return {key: _tuples(part) for key, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
