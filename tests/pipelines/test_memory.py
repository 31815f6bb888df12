"""A clip of one second and a clip of three hours in one bucket stay within one bound on memory.

The long one decodes to about 590 MB, of which 32 may stay in memory.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import media
import pytest

from m2hf.manifest import Card, Manifest, Row

Command = Callable[..., "subprocess.CompletedProcess[str]"]
M2HF = str(Path(sys.executable).parent / "m2hf")
EXTRACTORS = ("clip", "flow", "logmel")
FLOW = "flow.view={fps=8.0, size=[64, 64], gray=true}"
HOURS = 3
MEMORY_MB = 32
SLACK_MB = 96  # an eighth of MEMORY_MB, the windows at work, times, and what an allocator keeps


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A second of video with noise, and three hours of it at one frame per second."""
    folder = tmp_path / "media"
    folder.mkdir()
    for name, seconds, rate in (("short", 1, 8), ("long", HOURS * 3600, 1)):
        video = f"testsrc2=size=96x64:rate={rate}:duration={seconds}"
        sound = f"anoisesrc=color=pink:sample_rate=8000:duration={seconds}:seed=1"
        inputs = ["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", sound]
        encoder = ["-c:v", "libx264", "-preset", "ultrafast"]
        media.make(folder / f"{name}.mkv", *encoder, "-c:a", "pcm_s16le", inputs=inputs)
    return folder


def options(clips: Path, names: tuple[str, ...], tiny: tuple[str, ...]) -> list[str]:
    folder = clips.parent / "-".join(names)
    rows = tuple(
        Row(id=name, path=f"{name}.mkv", split="test", captions=("a clip",)) for name in names
    )
    Manifest(Card(name="lengths", protocol="one_caption"), rows).save(folder / "manifest")
    paths = ["--manifest", folder / "manifest", "--media", clips, "--store", folder / "store"]
    settings = (
        "buckets=1",
        f"media.memory_mb={MEMORY_MB}",
        "logmel.rate=8000",
        FLOW,
    )
    more = [part for setting in settings for part in ("--set", f"extract.{setting}")]
    return [*map(str, paths), "--only", ",".join(EXTRACTORS), *tiny, *more]


def peak_mb(arguments: list[str]) -> float:
    """The peak of anonymous memory of `m2hf extract`: pages that are not backed by a file."""
    process = subprocess.Popen([M2HF, "extract", *arguments], stdout=subprocess.DEVNULL)
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        lines = status.read_text(encoding="ascii").splitlines()  # none in memory once it ended
        peak = max([peak, *(int(line.split()[1]) for line in lines if line[:8] == "RssAnon:")])
        time.sleep(0.05)
    assert process.wait() == 0
    return peak / 1024


@pytest.mark.slow
def test_three_hours_take_the_memory_of_a_second(
    clips: Path, tiny: tuple[str, ...], m2hf: Command
) -> None:
    alone = peak_mb(options(clips, ("short",), tiny))
    both = options(clips, ("short", "long"), tiny)
    assert peak_mb(both) <= alone + MEMORY_MB + SLACK_MB
    status = json.loads(m2hf("status", *both, "--json").stdout)
    assert {name: status["extractors"][name]["ok"] for name in EXTRACTORS} == dict.fromkeys(
        EXTRACTORS, 2
    )
