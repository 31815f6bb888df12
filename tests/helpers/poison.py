"""Runs `m2hf` with a flow extractor that kills its process at one clip.

Use: M2HF_TEST_POISON=ID python tests/helpers/poison.py extract ...
"""

import os
import signal
from collections.abc import Callable, Mapping, Sequence

from m2hf.cli.app import main
from m2hf.ledger import LedgerWriter


def die(
    self: LedgerWriter,
    item: str,
    streams: Sequence[str],
    stage: str,
    beside: Mapping[str, Sequence[str]] | None = None,
    started: Callable[..., None] = LedgerWriter.started,
) -> None:
    """As if the library crashed right after the ledger was told."""
    started(self, item, streams, stage, beside)
    if stage == "extract" and (item, streams[0][:5]) == (os.environ["M2HF_TEST_POISON"], "flow@"):
        os.kill(os.getpid(), signal.SIGKILL)


if LedgerWriter.started.__name__ != "die":  # Dask loads a preload twice
    LedgerWriter.started = die  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
