"""Progress of an extraction, from the ledger that all workers write: bars, or lines in a log."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from m2hf.ledger_tail import LedgerTail

_ENDS = {"ok", "empty", "failed"}
_EVERY_S = 0.5
_LOG_EVERY_S = 30.0  # without a terminal, where bars would show only at the end


class _Rate(ProgressColumn):
    """Items per second, or seconds per item below one a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s per item")


@contextmanager
def extraction_progress(
    console: Console, ledger: Path, totals: Mapping[str, tuple[str, int]]
) -> Iterator[None]:
    """Show progress while the body runs. totals: stream -> (label, items to do)."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
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
        logged = time.monotonic()
        while not finished.wait(_EVERY_S):
            update()
            if not console.is_terminal and time.monotonic() - logged > _LOG_EVERY_S:
                logged = time.monotonic()
                console.print("  ".join(map(_line, progress.tasks)), soft_wrap=True)

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


def _line(bar: Task) -> str:
    left = f", {bar.time_remaining:.0f} s left" if bar.time_remaining else ""
    return f"{bar.description} {bar.completed:.0f}/{bar.total:.0f}{left}"
