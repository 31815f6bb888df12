"""Writes the corpus: an mp4 per scene, captions.csv with the splits, scenes.json with the truth."""

import csv
import io
import json
import subprocess
import tempfile
import wave
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from m2hf.atomic import atomic_text, atomic_write
from m2hf.data_manifests.shapes.picture import frames
from m2hf.data_manifests.shapes.scene import (
    FPS,
    HEIGHT,
    SECONDS,
    WIDTH,
    Scene,
    captions,
    draw_scenes,
)
from m2hf.data_manifests.shapes.sound import RATE, Wave, soundtrack
from m2hf.data_manifests.shapes.voice import say
from m2hf.errors import ResourceError, UsageError
from m2hf.ffmpeg import ffmpeg_exe

LEAST, MOST = 3, 9999  # clips: one for each split; four digits in an id
TEST_SHARE = 0.2
VAL_SHARE = 0.15
TRAIN_CAPTIONS = 4


@dataclass(frozen=True)
class Corpus:
    """Where a generated corpus lies, and the truth about each clip by its id."""

    videos: Path
    captions: Path
    scenes: dict[str, Scene]


def generate(out: Path, clips: int = 60, seed: int = 0) -> Corpus:
    """Writes out/videos/<id>.mp4, out/captions.csv (id, caption, split) and out/scenes.json.

    The same arguments give the same bytes, with the same ffmpeg and the same libraries; a second
    call writes them again. A clip is SECONDS long; the first clips are train, then val, then test.

    Raises UsageError for a number of clips or a seed out of range, or where out/videos can't be
    made or holds anything else; ResourceError where ffmpeg or the voice is missing or fails.
    """
    if not LEAST <= clips <= MOST:
        raise UsageError(f"shapes: {clips} clips asked for, {LEAST} to {MOST} can be made")
    if seed < 0:
        raise UsageError(f"shapes: the seed is {seed}, it must be 0 or more")
    scenes = {f"shapes{at:04d}": scene for at, scene in enumerate(draw_scenes(clips, seed))}
    corpus = Corpus(out / "videos", out / "captions.csv", scenes)
    # Spoken first, so that a missing voice ends the call before anything is written.
    speech: dict[str | None, Wave] = {
        scene.spoken: say(scene.spoken) for scene in scenes.values() if scene.spoken is not None
    }
    _make_room(corpus)
    for name, scene in scenes.items():
        _write_video(corpus.videos / f"{name}.mp4", scene, speech.get(scene.spoken))
    splits = _splits(list(scenes))
    atomic_text(corpus.captions, _captions_csv(scenes, splits, seed))
    truth = [
        {"id": name, "split": splits[name], "has_audio": scene.has_audio, **asdict(scene)}
        for name, scene in scenes.items()
    ]
    atomic_text(out / "scenes.json", json.dumps({"seed": seed, "clips": truth}, indent=1) + "\n")
    return corpus


def _make_room(corpus: Corpus) -> None:
    # A stray video would have no captions, and one of another size or seed would mislead.
    try:
        corpus.videos.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{corpus.videos}: no folder can be made there ({error})") from error
    ours = {f"{name}.mp4" for name in corpus.scenes}
    visible = [path.name for path in corpus.videos.iterdir() if not path.name.startswith(".")]
    strays = sorted(name for name in visible if name not in ours)
    if strays:
        raise UsageError(
            f"{corpus.videos}: holds {strays[0]}, which is not of this corpus; "
            "use an empty folder or remove it"
        )


def _splits(names: list[str]) -> dict[str, str]:
    test = max(1, round(TEST_SHARE * len(names)))
    val = max(1, round(VAL_SHARE * len(names)))
    train = len(names) - val - test
    order = ["train"] * train + ["val"] * val + ["test"] * test
    return dict(zip(names, order, strict=True))


def _captions_csv(scenes: dict[str, Scene], splits: dict[str, str], seed: int) -> str:
    rng = np.random.default_rng((seed, 1))  # apart from the stream that drew the scenes
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "caption", "split"])
    for name, scene in scenes.items():
        split = splits[name]
        # A query about one part alone would fit many clips; for training that is fine.
        count, least = (TRAIN_CAPTIONS, 1) if split == "train" else (1, 2)
        rows.writerows([name, caption, split] for caption in captions(scene, count, rng, least))
    return text.getvalue()


def _write_video(path: Path, scene: Scene, speech: Wave | None) -> None:
    with tempfile.TemporaryDirectory() as folder, atomic_write(path) as part:
        sound = None
        if scene.has_audio:
            sound = Path(folder) / "sound.wav"
            _write_wav(sound, soundtrack(scene, speech))
        done = subprocess.run(
            _encoder(sound, part),
            input=b"".join(frame.tobytes() for frame in frames(scene)),
            capture_output=True,
        )
        if done.returncode != 0:
            # The first line names the cause; what follows only says that nothing came of it.
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no word of why"]
            raise ResourceError(f"{path}: ffmpeg can't write it: {said[0]}")


def _encoder(sound: Path | None, part: Path) -> list[str]:
    # One thread and the bit-exact flags: the bytes must not depend on the machine's load or clock.
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{WIDTH}x{HEIGHT}"]
    inputs = [*raw, "-framerate", str(FPS), "-i", "pipe:0"]
    picture = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "22", "-pix_fmt", "yuv420p"]
    audio = ["-an"]
    if sound is not None:
        inputs += ["-i", str(sound)]
        audio = ["-c:a", "aac", "-b:a", "64k", "-flags:a", "+bitexact"]
    return [
        *(ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *inputs),
        *(*picture, "-flags:v", "+bitexact", *audio, "-threads", "1", "-t", str(SECONDS)),
        *("-map_metadata", "-1", "-fflags", "+bitexact", "-f", "mp4", str(part)),
    ]


def _write_wav(path: Path, samples: Wave) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())
