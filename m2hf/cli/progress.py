"""A bar for each extractor, fed by the ledger that all workers write."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from m2hf.ledger import LedgerTail

_ENDS = {"ok", "empty", "failed"}
_EVERY_S = 0.5


@contextmanager
def extraction_progress(
    console: Console, ledger: Path, totals: Mapping[str, tuple[str, int]]
) -> Iterator[None]:
    """Show progress while the body runs. totals: stream -> (label, items to do)."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
        console=console,
    )
    bars = {
        stream: progress.add_task(label, total=total, failed="")
        for stream, (label, total) in totals.items()
    }
    failed = dict.fromkeys(totals, 0)
    tail = LedgerTail(ledger)

    def update() -> None:
        for event in tail.new_events():
            for stream in event["streams"]:
                if stream not in bars or event["event"] not in _ENDS:
                    continue
                failed[stream] += event["event"] == "failed"
                note = f"[red]{failed[stream]} failed" if failed[stream] else ""
                progress.update(bars[stream], advance=1, failed=note)

    def watch() -> None:
        while not finished.wait(_EVERY_S):
            update()

    finished = threading.Event()
    watcher = threading.Thread(target=watch, daemon=True)
    with progress:
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()
            update()
