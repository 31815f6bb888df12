"""One clip as an mp4 file: frames and sound encoded by ffmpeg, to the same bytes each time."""

import subprocess
import tempfile
import wave
from collections.abc import Iterable
from pathlib import Path

from m2hf.atomic import atomic_write
from m2hf.data_manifests.toybox.drawing import RgbArray
from m2hf.data_manifests.toybox.scene import FPS, HEIGHT, SECONDS, WIDTH
from m2hf.data_manifests.toybox.sound import RATE, Wave
from m2hf.errors import ResourceError
from m2hf.ffmpeg import ffmpeg_exe


def write_clip_file(path: Path, frames: Iterable[RgbArray], sound: Wave | None) -> None:
    """Write an mp4 of SECONDS, without an audio track where `sound` is None.

    frames: FRAMES arrays of (HEIGHT, WIDTH, 3); sound: (SECONDS * RATE,) within -1..1. Raises
    ResourceError where ffmpeg is missing or fails.
    """
    with tempfile.TemporaryDirectory() as folder, atomic_write(path) as part:
        wav = None
        if sound is not None:
            wav = Path(folder) / "sound.wav"
            _write_wav(wav, sound)
        done = subprocess.run(
            _encoder(wav, part),
            input=b"".join(frame.tobytes() for frame in frames),
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
