"""The ledger: the outcome of each clip as append-only JSONL, one file for each process of a run.

Before anything that may kill the process a `started` line is written; then `ok`, `empty` or
`failed`. So a file whose last line is `started` and whose writer is gone names the clips that were
in work when the process ended: suspects, no more, since the whole job may have been killed. A
suspect is tried again alone (`pipelines/trial.py`). If that process dies and the one that waits for
it does not, the latter writes `died`; a clip with two such lines is quarantined. A writer holds a
lock on its file, which the system releases when the process ends.

Events of all files are ordered by their field `t`, which is the time in seconds, and yet never
goes back when the clock does: a new writer starts after the last line of every file in the folder,
and each line has at least the `t` of the line before it.
"""

import atexit
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2hf.atomic import raise_if_unwritable
from m2hf.errors import ClipError, ResourceError
from m2hf.ledger_events import last_event
from m2hf.locks import lock
from m2hf.printable import printable

DEATHS_TO_QUARANTINE = 2
_TICK_S = 0.001  # the resolution of `t`
DECODE = "decode"  # in place of a stream name: decoding, which all extractors share


@dataclass(frozen=True)
class TimeSpent:
    """Seconds of work, and how many of them a model was running."""

    wall_s: float = 0.0
    model_s: float = 0.0

    def __add__(self, other: "TimeSpent") -> "TimeSpent":
        return TimeSpent(self.wall_s + other.wall_s, self.model_s + other.model_s)

    def share(self, part: float) -> "TimeSpent":
        """A fraction, from 0 to 1, of this time."""
        return TimeSpent(self.wall_s * part, self.model_s * part)


class LedgerWriter:
    """Appends one process's events to its own file in `folder`.

    Raises ResourceError where the disk is full, or the folder can't be written or has no locks.
    """

    def __init__(self, folder: Path) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        name = f"{stamp}-{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns():x}.jsonl"
        self.path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise_if_unwritable(self.path, error)
            raise
        try:
            lock(self._file, self.path)  # nobody else has it: readers test files that have lines
        except ResourceError:
            self._file.close()
            raise
        self._open = False
        self._before_started = 0
        ends = [float(last_event(path).get("t", 0.0)) for path in folder.glob("*.jsonl")]
        self._t = max(ends, default=0.0) + _TICK_S
        atexit.register(self.close)

    def started(
        self,
        item: str,
        streams: Sequence[str],
        stage: str,
        beside: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`stage` begins for these streams; the next line of the file is its outcome.

        beside: other items that the process works on at the same time -> their streams.
        """
        line = {"event": "started", "id": item, "streams": list(streams), "stage": stage}
        others = {other: list(names) for other, names in (beside or {}).items()}
        self._write(line | ({"beside": others} if others else {}))

    def done(self, item: str, stream: str, event: str, spent: TimeSpent, reason: str = "") -> None:
        """`event` is "ok" or "empty"; `reason`: why empty, or a remark on an ok one."""
        line = {"event": event, "id": item, "streams": [stream], "seconds": round(spent.wall_s, 4)}
        line["model_seconds"] = round(spent.model_s, 4)
        self._write(line | ({"message": printable(reason)} if reason else {}))

    def failed(
        self,
        item: str,
        streams: Sequence[str],
        stage: str,
        error: ClipError,
        seconds: float,
        attempt: int,
    ) -> None:
        """No features for this item; the run continues."""
        self._write(
            {
                "event": "failed",
                "id": item,
                "streams": list(streams),
                "stage": stage,
                "class": type(error).__name__,
                "message": printable(str(error)),
                "seconds": round(seconds, 4),
                "attempt": attempt,
            }
        )

    def decoded(self, item: str, seconds: float) -> None:
        """A clip was decoded, once for all extractors."""
        self._write({"event": "decoded", "id": item, "streams": [DECODE], "seconds": seconds})

    def died(self, item: str, streams: Sequence[str], stage: str, how: str) -> None:
        """The process that tried this item alone died at it; `how`: its signal or exit code."""
        line = {"event": "died", "id": item, "streams": list(streams), "stage": stage}
        self._write(line | {"message": how})

    def retry(self, item: str, streams: Sequence[str]) -> None:
        """Clear failures and quarantine of this item in these streams."""
        self._write({"event": "retry", "id": item, "streams": list(streams)})

    def close(self) -> None:
        """End the file; an orderly end in the middle of a clip does not count as a death, also
        where the disk has no space to record it: then the clip's `started` is taken back."""
        if self._file.closed:
            return
        descriptor = os.dup(self._file.fileno())
        try:
            if self._open:
                self._write({"event": "interrupted", "id": "", "streams": []})
            self._file.close()
        except ResourceError:
            with suppress(OSError):  # it tries to write the rest again
                self._file.close()
            os.ftruncate(descriptor, self._before_started)
        finally:
            os.close(descriptor)

    def _write(self, line: dict[str, Any]) -> None:
        started = line["event"] == "started"
        self._open |= started  # an interrupt may come before the line is written, and after it
        if started:
            self._before_started = os.fstat(self._file.fileno()).st_size
        self._t = line["t"] = round(max(time.time(), self._t), 3)
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()  # to the kernel, so that a killed process loses nothing
        except OSError as error:
            raise_if_unwritable(self.path, error)
            raise
        self._open = started
