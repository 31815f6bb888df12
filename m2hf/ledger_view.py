"""The state of every item of a ledger, merged from the files of all processes."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from m2hf.ledger import DEATHS_TO_QUARANTINE, TimeSpent
from m2hf.ledger_file import CHUNK_BYTES, LedgerFile, Line

_HELD_BYTES = 64 << 20  # of all files that are merged
_LEAST_CHUNK_BYTES = 1 << 12
_OF_DEATHS = (b'"event": "retry"', b'"event": "died"')

Event = dict[str, Any]
Key = tuple[str, str]  # (item id, extractor@fingerprint8)


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
    """The state of every item that failed or was in work when a process ended.

    failures: of items whose last outcome is a failure;
    suspects: items that were in work when a process ended, perhaps among others; deaths: how often
    a process died that tried an item alone; quarantined: items with two deaths, and why (these
    three since the last retry);
    spent: stream, or "decode" -> (items, time) of all that succeeded.
    """

    failures: dict[Key, Failure] = field(default_factory=dict)
    suspects: set[Key] = field(default_factory=set)
    deaths: Counter[Key] = field(default_factory=Counter)
    quarantined: dict[Key, str] = field(default_factory=dict)
    spent: dict[str, tuple[int, TimeSpent]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Merge all files in time order; a partial last line (a kill while writing) is left out.

        Holds no more than a few lines of each file. Raises SchemaError naming file and line of
        what isn't an event.
        """
        paths = sorted(folder.glob("*.jsonl"))
        chunk = min(CHUNK_BYTES, max(_LEAST_CHUNK_BYTES, _HELD_BYTES // max(1, len(paths))))
        backwards: set[Path] = set()  # the few files of an old m2hf, which are held as a whole
        while True:
            try:
                parts = [
                    _repaired(_events(file)) if file.path in backwards else _in_order(file)
                    for file in (LedgerFile(path, chunk) for path in paths)
                ]
                return cls._of(heapq.merge(*parts, key=_time))
            except _ClockWentBack as found:
                backwards.add(found.path)

    @classmethod
    def _of(cls, events: Iterable[Event]) -> Self:
        """From events in time order."""
        view = cls()
        for event in events:
            if event["event"] == "started":
                continue
            at_once = {**event.get("beside", {}), event["id"]: event["streams"]}
            for item, streams in at_once.items():
                for stream in streams:
                    view._apply(event, (item, stream))
        return view

    def _apply(self, event: Event, key: Key) -> None:
        kind, (_, stream) = event["event"], key
        if kind in ("ok", "empty", "decoded"):
            items, spent = self.spent.get(stream, (0, TimeSpent()))
            self.spent[stream] = (items + 1, spent + time_spent(event))
        if kind == "abandoned":
            self.suspects.add(key)
        elif kind == "died":
            self.deaths[key] += 1
            if self.deaths[key] >= DEATHS_TO_QUARANTINE:
                how = f" ({event['message']})" if event.get("message") else ""
                self.quarantined[key] = (
                    f"the process died {self.deaths[key]} times at stage {event['stage']}{how}"
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
            self.suspects.discard(key)
            self.deaths.pop(key, None)
            self.failures.pop(key, None)
            self.quarantined.pop(key, None)
        elif kind in ("ok", "empty"):
            self.failures.pop(key, None)


class Deaths:
    """Suspects, deaths and quarantine of a ledger, kept up to date by reading what was appended.

    A task of each bucket asks for them, so that the work is linear in the ledger, not in the
    ledger times the buckets. Only deaths and retries are parsed and kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, _DeathsOfFile] = {}

    def view(self) -> LedgerView:
        """As they are now; failures and spent are empty. Raises as `LedgerView.read`."""
        paths = sorted(self._folder.glob("*.jsonl"))
        self._files = {path: self._files.get(path) or _DeathsOfFile(path) for path in paths}
        events = [event for file in self._files.values() for event in file.events()]
        return LedgerView._of(sorted(events, key=_time))


class _DeathsOfFile:
    """kept: deaths and retries but for the last line, which is `last`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin()

    def _begin(self) -> None:
        self._file, self._kept = LedgerFile(self._path), list[Event]()
        self._line, self._last = Line(0, b""), Event()

    def events(self) -> list[Event]:
        """In time order, and the last event whatever it is."""
        if self._file.shrank():
            self._begin()  # the writer took its last line back
        before = self._line
        for line in self._file.new_lines():
            if any(mark in self._line.text for mark in _OF_DEATHS):
                self._kept.append(self._file.event(self._line))
            self._line = line
        if not self._line.number:
            return []
        if self._line != before or self._last["event"] == "started":
            self._last = self._file.last_event(self._line)
        return _repaired([*self._kept, self._last])


class _ClockWentBack(Exception):
    """Events of a file are not in time order."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


def _in_order(file: LedgerFile) -> Iterator[Event]:
    """All events of a file; raises _ClockWentBack where one is earlier than the one before it."""
    t = 0.0
    for event in _events(file):
        if _time(event) < t:
            raise _ClockWentBack(file.path)
        t = _time(event)
        yield event


def _events(file: LedgerFile) -> Iterator[Event]:
    before = None
    for line in file.new_lines():
        if before is not None:
            yield file.event(before)
        before = line
    if before is not None:
        yield file.last_event(before)


def _repaired(events: Iterable[Event]) -> list[Event]:
    """Copies of the events in time order, where the clock of an old m2hf went back: none is later
    than one after it."""
    copies = [dict(event) for event in events]
    for after, before in pairwise(reversed(copies)):
        before["t"] = min(_time(before), _time(after))
    return copies


def _time(event: Event) -> float:
    return float(event["t"])


def time_spent(event: Mapping[str, Any]) -> TimeSpent:
    """The time that an event records for its item."""
    return TimeSpent(float(event["seconds"]), float(event.get("model_seconds", 0.0)))
