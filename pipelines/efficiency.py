"""What a run spends beside its models: wall time against their pure computation."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from m2hf.ledger import DECODE, LedgerTail, TimeSpent, spent_of

_ENDS = {"ok", "empty", "decoded"}


@dataclass(frozen=True)
class Efficiency:
    """processes: that wrote to the ledger; spent: stream, or "decode" -> (items, seconds).

    Decoding is beside the models where clips are decoded ahead, so its seconds add to nothing.
    """

    wall_s: float
    processes: int
    spent: dict[str, tuple[int, TimeSpent]]

    @property
    def model_s(self) -> float:
        """Seconds that all models computed, over all processes."""
        return sum(spent.model_s for stream, (_, spent) in self.spent.items() if stream != DECODE)

    @property
    def ratio(self) -> float:
        """Wall time of all processes over the time of their models: 1 is the best there is."""
        return self.wall_s * self.processes / self.model_s if self.model_s else float("inf")


class EfficiencyMeter:
    """Follows a ledger from its making on."""

    def __init__(self, ledger: Path) -> None:
        self._tail = LedgerTail(ledger)

    def read(self, wall_s: float) -> Efficiency:
        """What was done since, in `wall_s` seconds."""
        total: dict[str, tuple[int, TimeSpent]] = defaultdict(lambda: (0, TimeSpent()))
        for event in self._tail.new_events():
            if event["event"] in _ENDS:
                (stream,) = event["streams"]
                items, spent = total[stream]
                total[stream] = items + 1, spent + spent_of(event)
        return Efficiency(wall_s, len(self._tail.grown), dict(total))
