"""One flipped bit in a shard, a similarity file or a checkpoint."""

from collections import Counter
from pathlib import Path
from random import Random

from benchmarks.faults.fault import Fault, Result
from benchmarks.fuzz import sound_files
from benchmarks.fuzz.command import Outcome, run
from benchmarks.levels.corpus import NAME
from m2hf.errors import EXIT_OK

_STORE = ("--manifest", "{}/manifest", "--store", "{}/store")
# kind -> (the files, a command that reads all of one)
_KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "shard": (
        f"store/{NAME}/*/*.h5",
        ("verify", *_STORE, "--only", "clip,caption,audio,motion,text"),
    ),
    "similarity file": ("run/similarity.h5", ("tables", "{}/run/similarity.h5")),
    "checkpoint": ("run/checkpoint.safetensors", ("eval", *_STORE, "--run", "{}/run")),
}


def cause(folder: Path, count: int, seed: int) -> Result:
    """Flip one bit `count` times, evenly over the kinds; lost: flips with which the file is read
    as if it were sound, and those that end in a traceback."""
    random = Random(seed)  # noqa: S311 - no secret
    sound_files.make(folder)
    tried: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    tracebacks = 0
    for number in range(count):
        kind = list(_KINDS)[number % len(_KINDS)]
        pattern, words = _KINDS[kind]
        path = random.choice(sorted(folder.glob(pattern)))
        sound = path.read_bytes()
        data = bytearray(sound)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(data)
        ended = run([word.replace("{}", str(folder)) for word in words], folder)
        path.write_bytes(sound)
        tried[kind] += 1
        tracebacks += ended.outcome is Outcome.TRACEBACK
        missed[kind] += ended.outcome is Outcome.ACCEPTED and ended.code == EXIT_OK
    each = ", ".join(f"{kind}: {missed[kind]} of {tried[kind]} missed" for kind in _KINDS)
    return Result(count, missed.total() + tracebacks, f"{each}; {tracebacks} tracebacks")


FLIPS = Fault("flips", "one flipped bit in a shard, similarity file or checkpoint", 500, cause)
