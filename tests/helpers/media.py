"""Makes the media that tests decode, by ffmpeg from its own sources: small, odd and deterministic.

Run `python tests/helpers/media.py FOLDER` to have them as files to look at.
"""

import subprocess
import sys
from pathlib import Path

from m2hf.ffmpeg import ffmpeg_exe

_VIDEO = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration={seconds}"]
_TONE = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration={seconds}"]
_H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25"]
_EXACT = ["-fflags", "+bitexact", "-flags", "+bitexact", "-threads", "1"]


def make(path: Path, *options: str, inputs: list[str] | None = None, seconds: float = 2.0) -> Path:
    """One file by ffmpeg; `inputs` defaults to a test picture and a tone."""
    given = [part.format(seconds=seconds) for part in (inputs or [*_VIDEO, *_TONE])]
    command = [ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", *given]
    subprocess.run([*command, *options, *_EXACT, str(path)], check=True)
    return path


def good(path: Path, seconds: float = 2.0, tone: int = 440, source: str = "testsrc2") -> Path:
    """Picture and sound."""
    inputs = ["-f", "lavfi", "-i", f"{source}=size=320x240:rate=25:duration={seconds}"]
    inputs += ["-f", "lavfi", "-i", f"sine=frequency={tone}:sample_rate=44100:duration={seconds}"]
    return make(path, *_H264, "-c:a", "aac", "-shortest", inputs=inputs)


def no_audio(path: Path) -> Path:
    return make(path, *_H264, "-an")


def audio_only(path: Path) -> Path:
    return make(path, "-vn", "-c:a", "aac")


def one_frame(path: Path) -> Path:
    return make(path, *_H264, "-an", "-frames:v", "1")


def rotated(path: Path) -> Path:
    """320x240 stored, to be shown turned by 90 degrees."""
    flat = no_audio(path.with_name(f"flat-{path.name}"))
    inputs = ["-display_rotation", "90", "-i", str(flat)]
    make(path, "-c", "copy", inputs=inputs)
    flat.unlink()
    return path


def variable_rate(path: Path) -> Path:
    """25 frames a second in the first second, 5 in the second one."""
    chosen = "select='lt(t,1)+not(mod(n,5))'"
    return make(path, "-vf", chosen, "-fps_mode", "passthrough", *_H264, "-an")


def sound_of(path: Path, rate: int) -> Path:
    """Picture, and a tone of 440 Hz at `rate` samples a second, uncompressed."""
    tone = ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate={rate}:duration=2"]
    return make(path, *_H264, "-c:a", "pcm_s16le", inputs=[*_VIDEO, *tone])


def channels(path: Path, count: int, alike: bool = False) -> Path:
    """Picture, and sound of `count` channels; only the last one, or all alike, has the tone of
    440 Hz, which reaches 0.5."""
    tone_ = "0.5*sin(440*2*PI*t)"
    each = "|".join([tone_ if alike else "0"] * (count - 1) + [tone_])
    tone = ["-f", "lavfi", "-i", f"aevalsrc={each}:duration=2:sample_rate=44100"]
    return make(path, *_H264, "-c:a", "pcm_s16le", inputs=[*_VIDEO, *tone])


def uneven(path: Path, picture_s: float, sound_s: float) -> Path:
    """Picture and sound that do not end together."""
    picture = [part.format(seconds=picture_s) for part in _VIDEO]
    tone = [part.format(seconds=sound_s) for part in _TONE]
    return make(path, *_H264, "-c:a", "aac", inputs=[*picture, *tone])


def late_audio(path: Path) -> Path:
    """Sound that begins one second after the picture."""
    inputs = [*_VIDEO, "-itsoffset", "1", *_TONE]
    return make(path, *_H264, "-c:a", "aac", inputs=inputs)


def truncated(path: Path, seconds: float = 8.0) -> Path:
    """The first 60 % of a file whose index comes first: it opens, and breaks off."""
    make(path, *_H264, "-c:a", "aac", "-movflags", "+faststart", seconds=seconds)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    return path


def headless(path: Path) -> Path:
    """The first half of a file whose index comes last: nothing of it can be read."""
    make(path, *_H264, "-c:a", "aac")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def zero_bytes(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def garbage(path: Path) -> Path:
    path.write_bytes(bytes((i * 37 + i // 251) % 256 for i in range(20000)))
    return path


def colours(path: Path, shown: list[tuple[str, float]], *options: str, size: str = "64x48") -> Path:
    """Frames of one colour each for some seconds, and a tone of 1 kHz from 1 to 2 s, by `options`
    in place of the usual codecs."""
    sources = [f"color=c={c}:size={size}:rate=25:duration={s}" for c, s in shown]
    inputs = [part for source in sources for part in ("-f", "lavfi", "-i", source)]
    length = sum(seconds for _, seconds in shown)
    tone = f"aevalsrc=0.5*sin(2000*PI*t)*between(t\\,1\\,2):s=48000:d={length}"
    joined = "".join(f"[{n}:v]" for n in range(len(shown))) + f"concat=n={len(shown)}[v]"
    streams = ["-filter_complex", joined, "-map", "[v]", "-map", f"{len(shown)}:a"]
    given = options or (*_H264, "-c:a", "aac")
    return make(path, *streams, *given, inputs=[*inputs, "-f", "lavfi", "-i", tone])


def slides(path: Path, shown: list[str], seconds: int) -> Path:
    """One frame for each colour, every few seconds."""
    for number, colour in enumerate(shown):
        source = ["-f", "lavfi", "-i", f"color={colour}:size=64x48"]
        make(path.with_name(f"{path.stem}{number}.png"), "-frames:v", "1", inputs=source)
    images = ["-framerate", f"1/{seconds}", "-i", str(path.with_name(f"{path.stem}%d.png"))]
    return make(path, *_H264, inputs=images)


def rewrapped(source: Path, path: Path, *options: str) -> Path:
    """The same streams in another container, without decoding them."""
    return make(path, "-map", "0", "-c", "copy", *options, inputs=["-i", str(source)])


def odd_corpus(folder: Path) -> dict[str, Path]:
    """One file of each kind, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = (good, no_audio, audio_only, one_frame, truncated, headless, zero_bytes, garbage)
    return {maker.__name__: maker(folder / f"{maker.__name__}.mp4") for maker in makers}


if __name__ == "__main__":
    for name in odd_corpus(Path(sys.argv[1])):
        print(name)
