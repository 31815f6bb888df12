"""Small generated clips in several containers, their manifest, and runs of m2hf on them.

Extractors without a network: what a fault does to a run doesn't depend on the model.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchmarks
from m2hf.ffmpeg import ffmpeg_exe
from m2hf.manifest import Card, Manifest, Row

ROOT = Path(benchmarks.__file__).parent.parent
ONLY = "flow,logmel,thumbnail"
LIMIT_S = 600.0
_NAME = "clips"
_PICTURE = "testsrc2=size=96x64:rate=10:duration={seconds}"
_TONE = "sine=frequency={tone}:sample_rate=16000:duration={seconds}"
# extension -> options of ffmpeg: containers and codecs that every build has
CONTAINERS: Mapping[str, tuple[str, ...]] = {
    "mp4": ("-c:v", "mpeg4", "-c:a", "aac"),
    "mov": ("-c:v", "mjpeg", "-c:a", "pcm_s16le"),
    "mkv": ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "flac"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus"),
    "avi": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "ts": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "flv": ("-c:v", "flv", "-ar", "22050", "-c:a", "libmp3lame"),
    "wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
    "wav": ("-vn",),
    "gif": ("-an",),
}


def make_clip(path: Path, tone: int = 440, seconds: float = 1.0) -> Path:
    """A clip in the container of its extension; equal calls give equal bytes."""
    sources = (_PICTURE.format(seconds=seconds), _TONE.format(tone=tone, seconds=seconds))
    inputs = [part for source in sources for part in ("-f", "lavfi", "-i", source)]
    command = [ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *inputs]
    command += [*CONTAINERS[path.suffix[1:]], "-fflags", "+bitexact", "-flags", "+bitexact"]
    subprocess.run([*command, "-threads", "1", str(path)], check=True)
    return path


@dataclass(frozen=True)
class Ended:
    """How a run of m2hf ended."""

    code: int
    said: str

    @property
    def traceback(self) -> bool:
        """Whether it ended by an error that nobody expected."""
        return "Traceback" in self.said

    @property
    def message(self) -> str:
        """The line that it ended with, where it did with one."""
        return self.said.rpartition("\nm2hf: ")[2].strip() if "\nm2hf: " in self.said else ""


@dataclass(frozen=True)
class Clips:
    """A folder with media and their manifest; stores are folders beside."""

    folder: Path

    @classmethod
    def of(cls, folder: Path, files: Sequence[Path]) -> "Clips":
        """The files, which are all in `folder`/media, as a manifest; an id is a file's name."""
        rows = tuple(Row(id=path.name, path=path.name, split="test") for path in files)
        Manifest(Card(name=_NAME, protocol="one_caption"), rows).save(folder / "manifest")
        return cls(folder)

    @classmethod
    def make(cls, folder: Path, count: int) -> "Clips":
        """`count` clips of one second."""
        (folder / "media").mkdir(parents=True)
        names = (f"{number}.mp4" for number in range(count))
        made = [make_clip(folder / "media" / n, 300 + 40 * i) for i, n in enumerate(names)]
        return cls.of(folder, made)

    def arguments(self, store: str) -> list[str]:
        """Options of extract, status and retry."""
        paths = {"manifest": self.folder / "manifest", "media": self.folder / "media"}
        paths["store"] = self.folder / store
        named = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
        return [*named, "--only", ONLY, "--set", "extract.buckets=2"]

    def run(
        self,
        verb: str,
        store: str,
        disturbed: Sequence[str] = (),
        before: Callable[[], None] | None = None,
    ) -> Ended:
        """Run a verb as a process. disturbed: arguments of `benchmarks.faults.disturbed`; before:
        called in the new process."""
        done = subprocess.run(
            command(verb, self.arguments(store), disturbed),
            cwd=ROOT,
            capture_output=True,
            timeout=LIMIT_S,
            preexec_fn=before,
        )
        return Ended(done.returncode, done.stderr.decode(errors="replace"))

    def start(self, verb: str, store: str) -> "subprocess.Popen[bytes]":
        """Start a verb as a process."""
        return subprocess.Popen(
            command(verb, self.arguments(store), ()),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def shards(self, store: str) -> dict[str, bytes]:
        """The content of every shard by its path inside the store."""
        root = self.folder / store
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.h5")}

    def status(self, store: str) -> dict[str, Any]:
        """What `m2hf status --json` prints."""
        line = [*command("status", self.arguments(store), ()), "--json"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, timeout=LIMIT_S, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def differing(self, store: str, undisturbed: str) -> int:
        """Shards of one store that are missing in the other, or have other bytes."""
        mine, right = self.shards(store), self.shards(undisturbed)
        return sum(mine.get(name) != right.get(name) for name in {*mine, *right})

    def quarantined(self, store: str) -> int:
        """Items in quarantine, over all extractors."""
        counts = self.status(store)["extractors"].values()
        return sum(count["quarantined"] for count in counts)


def command(verb: str, arguments: Sequence[str], disturbed: Sequence[str]) -> list[str]:
    """The command line of a verb, in a disturbed process where `disturbed` is given."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    module = ["benchmarks.faults.disturbed", *disturbed, "--"] if disturbed else ["m2hf"]
    return [sys.executable, "-m", *module, verb, *arguments]
