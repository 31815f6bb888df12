"""`python -m benchmarks.fuzz.worker FOLDER FORMAT SEED FIRST COUNT`: damages and reads, in a loop.

Prints one line of JSON a case, as soon as it ended; `run.py` watches them, and ends a process that
hangs.
"""

import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from random import Random

from benchmarks.fuzz.command import Ending, Outcome, run, run_process
from benchmarks.fuzz.formats import FORMATS, Format

REAL_EVERY = 100  # of these cases one is run as a process of its own
REAL_LIMIT_S = 60.0


def main(folder: str, name: str, seed: str, first: str, count: str) -> None:
    """The cases `first` to `first + count - 1` of one format."""
    warnings.simplefilter("ignore")
    (chosen,) = (each for each in FORMATS if each.name == name)
    for number in range(int(first), int(first) + int(count)):
        real = number % REAL_EVERY == REAL_EVERY - 1
        ended = case(Path(folder), chosen, f"{seed} {name} {number}", real)
        line = {"number": number, "outcome": ended.outcome, "said": ended.said}
        print(json.dumps(line), flush=True)


def case(sound: Path, chosen: Format, seed: str, real: bool = False) -> Ending:
    """Damage one file of the format, and run its commands until one refuses it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "files"
        shutil.copytree(sound, folder)
        path = damaged(folder, chosen, seed)
        ended = Ending(Outcome.ACCEPTED)
        for number, command in enumerate(chosen.commands):
            out = Path(temporary) / f"out{number}"
            words = [part.replace("{out}", str(out)) for part in command.split()]
            words = [part.replace("{}", str(folder)) for part in words]
            ended = run_process(words, folder, REAL_LIMIT_S) if real else run(words, folder)
            if ended.outcome is not Outcome.ACCEPTED:
                where = f"{' '.join(words)} of {path.relative_to(folder)}, seed {seed!r}"
                return Ending(ended.outcome, f"{where}: {ended.said}")
        return ended


def damaged(folder: Path, chosen: Format, seed: str) -> Path:
    """Damage one file of the format in place; returns its path."""
    random = Random(seed)  # noqa: S311 - no secret
    path = random.choice(sorted(folder.glob(chosen.files)))
    path.write_bytes(chosen.damage(random, path.read_bytes()))
    return path


if __name__ == "__main__":
    main(*sys.argv[1:])
