"""Follow a ledger while processes write it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from m2hf.errors import SchemaError
from m2hf.ledger_file import LedgerFile


class LedgerTail:
    """Follows a ledger while processes write it, for a progress display.

    grown: the files with new lines, one for each process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {path: LedgerFile(path) for path in folder.glob("*.jsonl")}
        for file in self._files.values():
            file.to_end()
        self.grown: set[Path] = set()

    def new_events(self) -> Iterator[dict[str, Any]]:
        """Events written since the last call, over all files. A damaged line is left out: it is
        `LedgerView.read` that reports it."""
        for path in sorted(self._folder.glob("*.jsonl")):
            file = self._files.setdefault(path, LedgerFile(path))
            for line in file.new_lines():
                self.grown.add(path)
                with suppress(SchemaError):
                    yield file.event(line)
