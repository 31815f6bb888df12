"""Follow a ledger while processes write it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
        """Whole lines written since the last call, over all files."""
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                chunk = file.read()
            whole = chunk[: chunk.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            if whole:
                self.grown.add(path)
            yield from (json.loads(line) for line in whole.splitlines())
