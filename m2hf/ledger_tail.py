"""Follow a ledger while processes write it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from m2hf.errors import SchemaError
from m2hf.ledger_events import parse_event


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
