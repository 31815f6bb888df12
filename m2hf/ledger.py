"""The ledger: the outcome of each clip as append-only JSONL, one file for each process of a run.

Before anything that may kill the process a `started` line is written; then `ok`, `empty` or
`failed`. So a file whose last line is `started` and whose writer is gone names the clip that
killed the process, or several candidates where it worked on several clips at once. A clip at which
a process died twice is quarantined. A writer holds a lock on its file, which the system releases
when the process ends.

Events of all files are ordered by their field `t`, which is the time in seconds, and yet never
goes back when the clock does: a new writer starts after the last line of every file in the folder,
and each line has at least the `t` of the line before it.
"""

import atexit
import fcntl
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from m2hf.atomic import raise_if_unwritable
from m2hf.errors import ClipError, ResourceError, SchemaError
from m2hf.ledger_events import last_time, parse_event, read_events
from m2hf.printable import printable

DEATHS_TO_QUARANTINE = 2
_TICK_S = 0.001  # the resolution of `t`
DECODE = "decode"  # in place of a stream name: decoding, which all extractors share

Key = tuple[str, str]  # (item id, extractor@fingerprint8)


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

    Raises ResourceError where the disk is full or the folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        name = f"{stamp}-{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns():x}.jsonl"
        self._path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise_if_unwritable(self._path, error)
            raise
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._open = False
        self._before_started = 0
        self._t = max((last_time(path) for path in folder.glob("*.jsonl")), default=0.0) + _TICK_S
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
            raise_if_unwritable(self._path, error)
            raise
        self._open = started


@dataclass(frozen=True)
class Failure:
    """Why an item has no features from one extractor."""

    id: str
    stream: str
    stage: str
    error: str
    message: str
    attempt: int


@dataclass(frozen=True)
class LedgerView:
    """The state of every item, from all files of a ledger.

    failures: of items whose last outcome is a failure; remarks: reasons of ok and empty items;
    deaths: how often a process died while it worked on an item, perhaps among others, since the
    last retry; quarantined: items with two deaths, and why;
    spent: stream, or "decode" -> (items, time) of all that succeeded.
    """

    failures: dict[Key, Failure] = field(default_factory=dict)
    remarks: dict[Key, str] = field(default_factory=dict)
    deaths: Counter[Key] = field(default_factory=Counter)
    quarantined: dict[Key, str] = field(default_factory=dict)
    spent: dict[str, tuple[int, TimeSpent]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Merge all files in time order; a partial last line (a kill while writing) is left out.

        Raises SchemaError naming file and line of what isn't an event.
        """
        return cls._merged(folder, only=b"")

    @classmethod
    def read_deaths(cls, folder: Path) -> Self:
        """Only deaths and quarantine: parses last lines and retries alone, which is fast."""
        return cls._merged(folder, only=b'"event": "retry"')

    @classmethod
    def _merged(cls, folder: Path, only: bytes) -> Self:
        events: list[dict[str, Any]] = []
        for path in sorted(folder.glob("*.jsonl")):
            parsed = read_events(path, only)
            for before, after in pairwise(reversed(parsed)):  # the clock of an old m2hf went back
                after["t"] = min(float(after["t"]), float(before["t"]))
            if parsed and parsed[-1]["event"] == "started" and not _alive(path):
                parsed[-1]["event"] = "died"
            events += parsed
        events.sort(key=lambda event: float(event["t"]))
        view = cls()
        for event in events:
            at_once = {**event.get("beside", {}), event["id"]: event["streams"]}
            for item, streams in at_once.items():
                for stream in streams:
                    view._apply(event, (item, stream))
        return view

    def _apply(self, event: dict[str, Any], key: Key) -> None:
        kind, (_, stream) = event["event"], key
        if kind in ("ok", "empty", "decoded"):
            items, spent = self.spent.get(stream, (0, TimeSpent()))
            self.spent[stream] = (items + 1, spent + time_spent(event))
        if kind == "died":
            self.deaths[key] += 1
            if self.deaths[key] >= DEATHS_TO_QUARANTINE:
                self.quarantined[key] = (
                    f"the process died {self.deaths[key]} times at stage {event['stage']}"
                )
        elif kind == "failed":
            self.failures[key] = Failure(
                event["id"],
                stream,
                event["stage"],
                event["class"],
                event["message"],
                event["attempt"],
            )
        elif kind == "retry":
            self.deaths.pop(key, None)
            self.failures.pop(key, None)
            self.quarantined.pop(key, None)
        elif kind in ("ok", "empty"):
            self.failures.pop(key, None)
            self.remarks[key] = event.get("message", "")


def time_spent(event: Mapping[str, Any]) -> TimeSpent:
    """The time that an event records for its item."""
    return TimeSpent(float(event["seconds"]), float(event.get("model_seconds", 0.0)))


class LedgerTail:
    """Follows a ledger while processes write it, for a progress display.

    grown: the files with new lines, one for each process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {
            path: path.stat().st_size for path in folder.glob("*.jsonl")
        }
        self.grown: set[Path] = set()

    def new_events(self) -> Iterator[dict[str, Any]]:
        """Events written since the last call, over all files. A damaged line is left out: it is
        `LedgerView.read` that reports it."""
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                chunk = file.read()
            whole = chunk[: chunk.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            if whole:
                self.grown.add(path)
            for line in whole.splitlines():
                with suppress(SchemaError):
                    yield parse_event(line, str(path))


def _alive(path: Path) -> bool:
    """Whether its writer holds the lock. A shared lock needs no write permission, and several
    readers at once don't take each other for the writer."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
