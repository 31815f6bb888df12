"""A worker preload: processes wait before the third clip they begin, until a file is there.

Use: M2HF_TEST_GATE=FILE dask worker --preload tests/helpers/gate.py
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from m2hf.ledger import LedgerWriter

_begun: list[str] = []


def wait(
    self: LedgerWriter,
    item: str,
    streams: Sequence[str],
    stage: str,
    beside: Mapping[str, Sequence[str]] | None = None,
    started: Callable[..., None] = LedgerWriter.started,
) -> None:
    """Told the ledger, so that others see how far it is; then wait."""
    started(self, item, streams, stage, beside)
    _begun.append(item)
    if len(_begun) == 3:
        while not Path(os.environ["M2HF_TEST_GATE"]).exists():
            time.sleep(0.02)


if LedgerWriter.started.__name__ != "wait":  # Dask loads a preload twice
    LedgerWriter.started = wait  # type: ignore[method-assign]
