"""The toybox corpus: scenes, splits, captions, manifest, and an mp4 file for each scene.

OUT/videos/<id>.mp4   the clips
OUT/scenes.json       the ground truth of each
OUT/kinds.csv         the kind of each caption, for `m2hf tables --kinds`
"""

import json
import os
import subprocess
import tempfile
import wave
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from m2hf.atomic import atomic_text, atomic_write
from m2hf.data_manifests import cards
from m2hf.data_manifests.toybox.captions import SEEN, hidden_parts, sentence
from m2hf.data_manifests.toybox.drawing import frames
from m2hf.data_manifests.toybox.families import BLOCK, TWINS, caption_kinds, draw_toybox
from m2hf.data_manifests.toybox.scene import FPS, HEIGHT, SECONDS, WIDTH, Scene
from m2hf.data_manifests.toybox.sound import RATE, Wave, soundtrack
from m2hf.data_manifests.toybox.voice import synthesize
from m2hf.errors import ResourceError, UsageError
from m2hf.ffmpeg import ffmpeg_exe
from m2hf.manifest import Manifest, Row, Split, captions_of

MIN_CLIPS, MAX_CLIPS = 3 * BLOCK, 9999  # a block for each split; four digits in an id
TEST_SHARE, VAL_SHARE = 1 / 8, 1 / 8
TRAIN_CAPTIONS = 6
UNSEEN_SHARE = 0.6  # of training captions with two or more hidden parts: no visible part


@dataclass(frozen=True)
class ToyboxCaption:
    """A caption; kind: what is needed to find its clip (families.caption_kinds), or "free"."""

    text: str
    kind: str


@dataclass(frozen=True)
class ToyboxClip:
    """The scene of one clip, its split, and its captions."""

    scene: Scene
    split: Split
    captions: tuple[ToyboxCaption, ...]


@dataclass(frozen=True)
class ToyboxCorpus:
    """All clips by id. The same size and seed give the same corpus."""

    seed: int
    clips: dict[str, ToyboxClip]

    @classmethod
    def draw(cls, clips: int, seed: int = 0) -> Self:
        """Families are not divided between splits. Raises UsageError for numbers out of range."""
        if not MIN_CLIPS <= clips <= MAX_CLIPS:
            raise UsageError(f"toybox: {clips} clips; expected {MIN_CLIPS} to {MAX_CLIPS}")
        if seed < 0:
            raise UsageError(f"toybox: seed {seed}; expected 0 or more")
        return cls(seed, _clips(clips, seed))

    def availability(self) -> dict[str, int]:
        """How many clips have sound, a sign, speech."""
        scenes = [clip.scene for clip in self.clips.values()]
        found = {"sound": [s.sound for s in scenes], "a sign": [s.sign for s in scenes]}
        found["speech"] = [s.spoken for s in scenes]
        return {name: len(values) - values.count(None) for name, values in found.items()}

    def kinds(self) -> dict[str, str]:
        """Caption id -> its kind."""
        kinds = [caption.kind for clip in self.clips.values() for caption in clip.captions]
        ids = [caption.id for caption in captions_of(self.manifest().rows)]
        return dict(zip(ids, kinds, strict=True))

    def manifest(self) -> Manifest:
        """One row per clip, with a card that declares the counts of this corpus."""
        rows = tuple(
            Row(
                id=name,
                path=f"{name}.mp4",
                split=clip.split,
                captions=tuple(caption.text for caption in clip.captions),
            )
            for name, clip in self.clips.items()
        )
        found = Manifest(cards.read("toybox"), rows)
        return Manifest(found.card.model_copy(update={"splits": found.counts()}), rows)


def generate(out: Path, corpus: ToyboxCorpus) -> None:
    """Write out/videos, out/scenes.json and out/kinds.csv.

    The same corpus gives the same bytes, with the same ffmpeg and the same libraries; a second
    call overwrites them. A clip is SECONDS long.

    Raises UsageError where out/videos can't be created or holds other files; ResourceError where
    ffmpeg or the speech synthesizer is missing or fails.
    """
    # Synthesized first, so that a missing synthesizer is an error before anything is written.
    for word in {clip.scene.spoken for clip in corpus.clips.values()} - {None}:
        synthesize(str(word))
    videos = out / "videos"
    _prepare_folder(videos, {f"{name}.mp4" for name in corpus.clips})

    def write(name: str) -> None:
        write_clip(videos / f"{name}.mp4", corpus.clips[name].scene)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads: half of the work is in ffmpeg
        deque(pool.map(write, corpus.clips), maxlen=0)
    ground_truth = [{"id": name, **asdict(clip)} for name, clip in corpus.clips.items()]
    scenes = {"seed": corpus.seed, "clips": ground_truth}
    atomic_text(out / "scenes.json", json.dumps(scenes, indent=1) + "\n")
    lines = [f"{caption},{kind}\n" for caption, kind in corpus.kinds().items()]
    atomic_text(out / "kinds.csv", "".join(["id,kind\n", *lines]))


def _clips(count: int, seed: int) -> dict[str, ToyboxClip]:
    rng = np.random.default_rng((seed, 1))  # another stream than the one that draws the scenes
    blocks = count // BLOCK
    test = BLOCK * max(1, round(TEST_SHARE * blocks))
    val = test + BLOCK * max(1, round(VAL_SHARE * blocks))
    clips = {}
    for at, scene in enumerate(draw_toybox(count, seed)):
        split: Split = "test" if at < test else "val" if at < val else "train"
        clips[f"toybox{at:04d}"] = ToyboxClip(scene, split, _captions(scene, split, at, rng))
    return clips


def _captions(
    scene: Scene, split: Split, at: int, rng: np.random.Generator
) -> tuple[ToyboxCaption, ...]:
    """For training, TRAIN_CAPTIONS about random parts; else one of each kind."""
    if split != "train":
        kinds = caption_kinds(scene, unique=at % BLOCK >= TWINS)
        return tuple(ToyboxCaption(sentence(scene, parts, rng), kind) for kind, parts in kinds)
    found: list[str] = []
    while len(found) < TRAIN_CAPTIONS:
        hidden = [part for part in hidden_parts(scene) if rng.random() < 0.4]
        seen = () if len(hidden) > 1 and rng.random() < UNSEEN_SHARE else SEEN
        text = sentence(scene, [*seen, *hidden], rng)
        if text not in found:
            found.append(text)
    return tuple(ToyboxCaption(text, "free") for text in found)


def _prepare_folder(videos: Path, expected: set[str]) -> None:
    # A stray video would have no captions, and one of another size or seed would mislead.
    try:
        videos.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{videos}: can't create the folder ({error})") from error
    visible = [path.name for path in videos.iterdir() if not path.name.startswith(".")]
    strays = sorted(name for name in visible if name not in expected)
    if strays:
        raise UsageError(
            f"{videos}: contains {strays[0]}, which is not part of this corpus; "
            "use an empty folder or remove the file"
        )


def write_clip(path: Path, scene: Scene) -> None:
    """Write one scene as an mp4 of SECONDS; raises ResourceError as `generate` does."""
    with tempfile.TemporaryDirectory() as folder, atomic_write(path) as part:
        sound = None
        if scene.has_audio:
            sound = Path(folder) / "sound.wav"
            _write_wav(
                sound, soundtrack(scene, None if scene.spoken is None else synthesize(scene.spoken))
            )
        done = subprocess.run(
            _encoder(sound, part),
            input=b"".join(frame.tobytes() for frame in frames(scene)),
            capture_output=True,
        )
        if done.returncode != 0:
            # The first line names the cause; the others only follow from it.
            log = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise ResourceError(f"{path}: ffmpeg can't write it: {log[0]}")


def _encoder(sound: Path | None, part: Path) -> list[str]:
    # One thread and the bit-exact flags: the bytes must not depend on the machine's load or clock.
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{WIDTH}x{HEIGHT}"]
    inputs = [*raw, "-framerate", str(FPS), "-i", "pipe:0"]
    video = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "22", "-pix_fmt", "yuv420p"]
    audio = ["-an"]
    if sound is not None:
        inputs += ["-i", str(sound)]
        audio = ["-c:a", "aac", "-b:a", "64k", "-flags:a", "+bitexact"]
    return [
        *(ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *inputs),
        *(*video, "-flags:v", "+bitexact", *audio, "-threads", "1", "-t", str(SECONDS)),
        *("-map_metadata", "-1", "-fflags", "+bitexact", "-f", "mp4", str(part)),
    ]


def _write_wav(path: Path, samples: Wave) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())
