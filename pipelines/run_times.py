"""Time of a run by stream, and its overhead: wall time relative to pure model computation."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from m2hf.ledger import DECODE, TimeSpent
from m2hf.ledger_tail import LedgerTail
from m2hf.ledger_view import time_spent

_END_EVENTS = {"ok", "empty", "decoded"}


@dataclass(frozen=True)
class RunTimes:
    """Times of one run. processes: how many wrote to the ledger; spent: stream, or "decode" ->
    (items, time).

    Prefetched clips are decoded while models run, so the times don't add up to the wall time.
    """

    wall_s: float
    processes: int
    spent: dict[str, tuple[int, TimeSpent]]

    @property
    def model_s(self) -> float:
        """Seconds that models computed, summed over all processes."""
        return sum(spent.model_s for stream, (_, spent) in self.spent.items() if stream != DECODE)

    @property
    def overhead_ratio(self) -> float:
        """Wall time of all processes divided by the time of their models; 1 is the optimum."""
        return self.wall_s * self.processes / self.model_s if self.model_s else float("inf")


class RunTimer:
    """Measures a run by the events that are written to a ledger after construction."""

    def __init__(self, ledger: Path) -> None:
        self._tail = LedgerTail(ledger)

    def read(self, wall_s: float) -> RunTimes:
        """Times of what was done since then, in `wall_s` seconds."""
        total: dict[str, tuple[int, TimeSpent]] = defaultdict(lambda: (0, TimeSpent()))
        for event in self._tail.new_events():
            if event["event"] in _END_EVENTS:
                (stream,) = event["streams"]
                items, spent = total[stream]
                total[stream] = items + 1, spent + time_spent(event)
        return RunTimes(wall_s, len(self._tail.grown), dict(total))
