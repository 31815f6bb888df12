"""One file of a ledger, read from where the last reading stopped.

No file stays open: a ledger may have more files than a process may have open.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from m2hf.errors import SchemaError
from m2hf.ledger_events import parse_event
from m2hf.locks import is_locked
from m2hf.plain_data import read_bytes

CHUNK_BYTES = 1 << 20


class Line(NamedTuple):
    """A line as it is stored, and its number from 1."""

    number: int
    text: bytes


class LedgerFile:
    """Follows a file: `new_lines` returns each line once."""

    def __init__(self, path: Path, chunk: int = CHUNK_BYTES) -> None:
        """chunk: bytes that are held at a time, or the longest line."""
        self.path = path
        self._chunk = chunk
        self._offset = self._number = 0

    def shrank(self) -> bool:
        """Whether the file is shorter than what was read of it."""
        return self.path.stat().st_size < self._offset

    def to_end(self) -> None:
        """Leave out the lines that are there now."""
        self._offset = self.path.stat().st_size

    def new_lines(self) -> Iterator[Line]:
        """The whole lines that were appended since the last call.

        A last line without a line end, which a kill in the middle of writing leaves, is not
        returned. Raises SchemaError for what isn't a file, UsageError without read permission.
        """
        size = self._chunk
        while data := read_bytes(self.path, str(self.path), SchemaError, self._offset, size):
            lines = data.split(b"\n")
            rest = lines.pop()
            if not lines and len(data) < size:
                return  # a partial line at the end of the file
            size = self._chunk if lines else 2 * size
            for text in lines:
                self._offset += len(text) + 1
                self._number += 1
                yield Line(self._number, text)
            if len(data) < self._chunk and not rest:
                return

    def event(self, line: Line) -> dict[str, Any]:
        """The event in a line; raises SchemaError naming file and line where there is none."""
        return parse_event(line.text, f"{self.path}, line {line.number}")

    def last_event(self, line: Line) -> dict[str, Any]:
        """As `event`, of the last line of the file: a clip that was begun, and whose process has
        ended since, is `abandoned`."""
        event = self.event(line)
        if event["event"] == "started" and not is_locked(self.path):
            event["event"] = "abandoned"
        return event
