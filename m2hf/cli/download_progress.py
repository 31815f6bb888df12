"""Progress of one download: a bar, or lines in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_LOG_EVERY_S = 10.0  # without a terminal, where a bar would show only at the end


@contextmanager
def download_progress(console: Console, name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function to call with the bytes received and the total, or None where unknown."""
    if not console.is_terminal:
        yield _Lines(console, name)
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    with progress:
        bar = progress.add_task(name, total=None)
        yield lambda received, total: progress.update(bar, completed=received, total=total)


class _Lines:
    """Prints a line at the start and then every 10 s: bytes, rate, time left."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._began = self._printed = time.monotonic()
        self._first: int | None = None

    def __call__(self, received: int, total: int | None) -> None:
        now = time.monotonic()
        if self._first is not None and now - self._printed < _LOG_EVERY_S and received != total:
            return
        self._first = received if self._first is None else self._first
        self._printed = now
        parts = [f"{self._name}: {decimal(received)}" + (f" of {decimal(total)}" if total else "")]
        rate = (received - self._first) / (now - self._began) if now > self._began else 0.0
        if rate:
            parts.append(f"{decimal(int(rate))}/s")
        if rate and total and received < total:
            parts.append(f"{(total - received) / rate:.0f} s left")
        self._console.print(", ".join(parts), soft_wrap=True, highlight=False, markup=False)
