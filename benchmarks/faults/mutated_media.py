"""Media files with flipped, cut, spliced, zeroed and random bytes."""

from collections import Counter
from pathlib import Path
from random import Random

from benchmarks.faults.clips import CONTAINERS, Clips, make_clip
from benchmarks.faults.fault import Fault, Result, listed
from benchmarks.fuzz import damage

_AT_ONCE = 50  # files of a run


def cause(folder: Path, count: int, seed: int) -> Result:
    """Extract from `count` damaged files; lost: items that end neither ok, nor empty, nor failed,
    and runs that end in a traceback or don't end."""
    random = Random(seed)  # noqa: S311 - no secret
    (folder / "sound").mkdir()
    sound = [make_clip(folder / "sound" / f"clip.{suffix}") for suffix in CONTAINERS]
    states: Counter[str] = Counter()
    unexpected = 0
    for start in range(0, count, _AT_ONCE):
        media = folder / str(start) / "media"
        media.mkdir(parents=True)
        numbers = range(start, min(start + _AT_ONCE, count))
        files = [_mutated(random, sound, media, number) for number in numbers]
        clips = Clips.of(media.parent, files)
        ended = clips.run("extract", "store")
        unexpected += ended.traceback or ended.code not in (0, 3)
        for counts in clips.status("store")["extractors"].values():
            states.update(counts)
    lost = states["missing"] + states["quarantined"] + unexpected
    shown = {name: states[name] for name in ("ok", "empty", "failed", "missing", "quarantined")}
    return Result(
        count, lost, f"items: {listed(shown)}; runs with a traceback or a wrong end: {unexpected}"
    )


def _mutated(random: Random, sound: list[Path], media: Path, number: int) -> Path:
    source = random.choice(sound)
    data = source.read_bytes()
    match random.choice(("bytes", "bytes", "many", "zeroed", "spliced", "renamed", "random")):
        case "bytes":
            data = damage.of_bytes(random, data)
        case "many":
            for _ in range(20):
                data = damage.of_bytes(random, data) or b"\0"
        case "zeroed":
            at = random.randrange(len(data))
            end = min(len(data), at + random.randrange(1, len(data)))
            data = data[:at] + bytes(end - at) + data[end:]
        case "spliced":
            other = random.choice(sound).read_bytes()
            data = data[: random.randrange(len(data))] + other[random.randrange(len(other)) :]
        case "renamed":
            source = random.choice(sound)  # the content of one container, the name of another
        case _:
            at = random.randrange(min(len(data), 512))
            data = data[:at] + random.randbytes(random.randrange(1, 64)) + data[at:]
    path = media / f"{number}{source.suffix}"
    path.write_bytes(data)
    return path


MUTATED_MEDIA = Fault("media", "mutated media files, in ten containers", 500, cause)
