"""Mutated data files of every format, by the fuzzer."""

from collections import Counter
from pathlib import Path

from benchmarks.faults.fault import Fault, Result, listed
from benchmarks.fuzz import sound_files
from benchmarks.fuzz.command import Outcome
from benchmarks.fuzz.formats import FORMATS
from benchmarks.fuzz.run import fuzz


def cause(folder: Path, count: int, seed: int) -> Result:
    """`count` files, evenly of every format; lost: tracebacks and hangs."""
    sound_files.make(folder)
    outcomes: Counter[str] = Counter()
    wrong = []
    for number, each in enumerate(FORMATS):
        share = (count * (number + 1)) // len(FORMATS) - (count * number) // len(FORMATS)
        tally = fuzz(folder, each.name, seed, share)
        outcomes.update({str(outcome): found for outcome, found in tally.outcomes.items()})
        wrong += [each.name] * len(tally.wrong)
    lost = outcomes[Outcome.TRACEBACK] + outcomes[Outcome.HANG]
    of = f" ({listed(Counter(wrong))})" if wrong else ""
    return Result(count, lost, f"{listed(outcomes)}{of}")


MUTATED_FILES = Fault("files", "mutated data files, of every format", 1000, cause)
