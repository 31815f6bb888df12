"""How far one download is: a bar, or lines in a log file."""

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

_LOG_EVERY_S = 10.0  # where there is no terminal: a bar would show only at the end


@contextmanager
def download_progress(console: Console, name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yields what to call with the bytes that are there, and the bytes in all if known."""
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
        yield lambda have, total: progress.update(bar, completed=have, total=total)


class _Lines:
    """A line at once, and then one each 10 s: bytes, rate, time left."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._began = self._said = time.monotonic()
        self._first: int | None = None

    def __call__(self, have: int, total: int | None) -> None:
        now = time.monotonic()
        if self._first is not None and now - self._said < _LOG_EVERY_S and have != total:
            return
        self._first = have if self._first is None else self._first
        self._said = now
        parts = [f"{self._name}: {decimal(have)}" + (f" of {decimal(total)}" if total else "")]
        rate = (have - self._first) / (now - self._began) if now > self._began else 0.0
        if rate:
            parts.append(f"{decimal(int(rate))}/s")
        if rate and total and have < total:
            parts.append(f"{(total - have) / rate:.0f} s left")
        self._console.print(", ".join(parts), soft_wrap=True, highlight=False, markup=False)
