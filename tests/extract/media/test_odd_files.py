"""Files that change in the middle, jump in time or break off: right, or refused with the reason."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import media
import numpy as np
import pytest

from m2hf.errors import MediaError
from m2hf.extract.media.decode import DecodedClip, decode
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.sound import Sound
from m2hf.extract.media.views import FrameView, MediaLimits

SLOW = FrameView(fps=1.0, max_side=64)
FAST = FrameView(fps=8.0, size=(32, 24), gray=True)
RATE = 16000
_TS = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-c:a", "mp2"]
_WEBM = ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"]


def half(path: Path, colour: str, hertz: int, size: str, *options: str) -> Path:
    """2 s of a colour and a tone."""
    inputs = ["-f", "lavfi", "-i", f"color={colour}:size={size}:rate=25:duration=2"]
    inputs += ["-f", "lavfi", "-i", f"sine={hertz}:sample_rate=48000:duration=2"]
    return media.make(path, *options, inputs=inputs)


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def broadcast(folder: Path, second: list[str], size: str = "64x48") -> Path:
    """A transport stream whose second half begins at 2 s and was encoded with other options."""
    one = half(folder / "1.ts", "red", 400, "64x48", *_TS, "-pix_fmt", "yuv420p")
    two = half(folder / "2.ts", "blue", 900, size, *_TS, *second, "-output_ts_offset", "2")
    return joined(folder / "both.ts", one, two)


def other_size(folder: Path) -> Path:
    return broadcast(folder, ["-pix_fmt", "yuv420p"], "128x72")


def other_pixels(folder: Path) -> Path:
    return broadcast(folder, ["-pix_fmt", "yuv444p"])


def other_channels(folder: Path) -> Path:
    return broadcast(folder, ["-pix_fmt", "yuv420p", "-ac", "2"])


def other_rate(folder: Path) -> Path:
    return broadcast(folder, ["-pix_fmt", "yuv420p", "-ar", "44100"])


def calls(folder: Path) -> Path:
    """A call whose frames get larger, as WebRTC records it."""
    one = half(folder / "1.webm", "red", 400, "64x48", *_WEBM)
    two = half(folder / "2.webm", "blue", 900, "128x96", *_WEBM)
    listed = folder / "list.txt"
    listed.write_text(f"file '{one.name}'\nfile '{two.name}'\n", encoding="utf-8")
    inputs = ["-f", "concat", "-i", str(listed)]
    return media.make(folder / "call.webm", "-c", "copy", inputs=inputs)


CHANGING = [other_size, other_pixels, other_channels, other_rate, calls]


def read(path: Path, **limits: float) -> DecodedClip:
    return decode(path, [SLOW, FAST], [RATE], MediaLimits.model_validate(limits))


def frames_of(clip: DecodedClip, view: FrameView) -> Frames:
    frames = clip.frames(view)
    assert isinstance(frames, Frames)
    return frames


def sound_of(clip: DecodedClip) -> Sound:
    sound = clip.sound(RATE)
    assert isinstance(sound, Sound)
    return sound


def pitch(samples: "np.typing.NDArray[np.float32]") -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples)))) * RATE / len(samples)


@pytest.mark.parametrize("make", CHANGING)
def test_a_change_in_the_middle_disturbs_neither_frames_nor_sound(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    clip = read(make(tmp_path))
    frames, sound = frames_of(clip, SLOW), sound_of(clip)
    np.testing.assert_allclose(frames.start_s, [0, 1, 2, 3], atol=0.06)
    means = frames.pixels.mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(means, [[1, 0, 0]] * 2 + [[0, 0, 1]] * 2, atol=0.1)
    assert frames.pixels.std(axis=(1, 2)).max() < 10
    assert len(frames_of(clip, FAST)) == 32
    assert sound.duration_s == pytest.approx(4.0, abs=0.06)
    assert pitch(sound.samples[: 3 * RATE // 2]) == pytest.approx(400, abs=3)
    assert pitch(sound.samples[5 * RATE // 2 : 15 * RATE // 4]) == pytest.approx(900, abs=3)
    assert clip.remark([SLOW], [RATE]) == ""


def digests(clip: DecodedClip, views: list[FrameView], rates: list[int]) -> list[str]:
    frames = [frames_of(clip, view) for view in views]
    arrays = [array for f in frames for array in (f.pixels, f.start_s, f.end_s)]
    arrays += [sound_of(clip).samples for _ in rates]
    return [hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in arrays]


@pytest.mark.parametrize("make", [other_channels, calls])
def test_equal_bytes_on_every_run_and_whoever_shares_the_decode(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    shared = [digests(read(path), [SLOW, FAST], [RATE]) for _ in range(4)]
    assert shared == [shared[0]] * 4
    slow, fast, sound = shared[0][:3], shared[0][3:6], shared[0][6:]
    assert digests(decode(path, [SLOW]), [SLOW], []) == slow
    assert digests(decode(path, [FAST]), [FAST], []) == fast
    assert digests(decode(path, [], [RATE]), [], [RATE]) == sound


@pytest.mark.parametrize(("extension", "codecs"), [("webm", _WEBM), ("ts", _TS)])
def test_times_that_go_back_are_an_error_of_each_stream(
    tmp_path: Path, extension: str, codecs: list[str]
) -> None:
    parts = [
        half(tmp_path / f"{colour}.{extension}", colour, 400, "64x48", *codecs)
        for colour in ("red", "blue")
    ]
    clip = read(joined(tmp_path / f"both.{extension}", *parts))
    with pytest.raises(MediaError, match=r"time stamps of the frames go back after 1\.\d+ s"):
        clip.frames(SLOW)
    with pytest.raises(MediaError, match=r"time stamps of the sound go back after \d\.\d+ s"):
        clip.sound(RATE)


def jump(folder: Path, seconds: int) -> Path:
    plain = half(folder / "plain.mkv", "red", 400, "64x48", *_TS)
    later = f"setts=ts='if(gt(TS*TB,1.5),TS+{seconds}/TB,TS)'"
    return media.rewrapped(plain, folder / "jump.mkv", "-bsf:v", later, "-bsf:a", later)


def test_a_jump_in_time_is_a_gap_up_to_a_limit(tmp_path: Path) -> None:
    path = jump(tmp_path, 60)
    clip = read(path)
    frames, sound = frames_of(clip, SLOW), sound_of(clip)
    assert clip.duration_s == pytest.approx(62, abs=0.1)
    assert frames.start_s[-1] == pytest.approx(61.52, abs=0.1)
    assert sound.duration_s == pytest.approx(62, abs=0.1)
    assert not sound.samples[2 * RATE : 61 * RATE].any()
    assert np.abs(sound.samples[-RATE // 4 :]).max() > 0.05
    with pytest.raises(MediaError, match=r"jump from 1\.\d to 61\.\d s, over the limit of 30 s"):
        read(path, max_gap_s=30)
    with pytest.raises(MediaError, match="longer than the limit of 40 s"):
        read(path, max_duration_s=40)


def test_limits_hold_for_what_is_decoded_not_for_the_header(tmp_path: Path) -> None:
    plain = half(tmp_path / "plain.mkv", "red", 400, "64x48", *_TS)
    for name, options in (("live.mkv", ["-live", "1"]), ("raw.ts", [])):
        path = media.rewrapped(plain, tmp_path / name, *options)
        with pytest.raises(MediaError, match="longer than the limit of 1 s"):
            read(path, max_duration_s=1)
    with pytest.raises(MediaError, match="frames of 128x72 are over the limit of 4000 pixels"):
        read(other_size(tmp_path), max_pixels=4000)
    subtitle = tmp_path / "s.srt"
    subtitle.write_text("1\n00:00:01,000 --> 05:00:00,000\nthe end\n", encoding="utf-8")
    inputs = ["-i", str(plain), "-i", str(subtitle)]
    titled = media.make(
        tmp_path / "t.mkv", "-map", "0", "-map", "1", "-c", "copy", "-c:s", "srt", inputs=inputs
    )
    clip = read(titled)
    assert clip.duration_s == pytest.approx(2.0, abs=0.1)
    assert clip.remark([SLOW], [RATE]) == ""


def test_a_file_that_begins_at_100_s_is_as_long_as_it_is(tmp_path: Path) -> None:
    plain = half(tmp_path / "plain.mkv", "red", 400, "64x48", *_TS)
    later = media.rewrapped(plain, tmp_path / "later.mkv", "-output_ts_offset", "100")
    clip = read(later, max_duration_s=10)
    assert clip.duration_s == pytest.approx(2.0, abs=0.1)
    assert clip.remark([SLOW], [RATE]) == ""


@pytest.mark.parametrize("container", ["mkv", "mp4", "flv"])
def test_a_file_that_breaks_off_says_so(tmp_path: Path, container: str) -> None:
    """Noise, so that the size grows evenly with time."""
    source = ["-f", "lavfi", "-i", "nullsrc=s=64x48:r=25:d=8,geq=random(1)*255:128:128"]
    source += ["-f", "lavfi", "-i", "anoisesrc=d=8:r=44100:seed=1"]
    codecs = ["-c:v", "mpeg4", "-bf", "0", "-q:v", "3", "-c:a", "libmp3lame"]
    codecs[1] = "flv1" if container == "flv" else "mpeg4"
    codecs += ["-movflags", "+faststart"] if container == "mp4" else []
    path = media.make(tmp_path / f"n.{container}", *codecs, inputs=source)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    remark = read(path).remark([SLOW], [RATE])
    assert "the frames end at " in remark
    assert "of 8.0 s" in remark or "of 8.1 s" in remark


@pytest.mark.parametrize("loud_first", [True, False])
def test_an_mp3_of_variable_rate_without_a_header_is_whole(
    tmp_path: Path, loud_first: bool
) -> None:
    sources = ["anoisesrc=d=15:a=0.3:r=44100:seed=1", "aevalsrc=0.0001*sin(t):s=44100:d=15"]
    inputs = [p for s in sources[:: 1 if loud_first else -1] for p in ("-f", "lavfi", "-i", s)]
    mp3 = ["-c:a", "libmp3lame", "-q:a", "4", "-write_xing", "0", "-id3v2_version", "0"]
    both = ["-filter_complex", "[0][1]concat=n=2:v=0:a=1"]
    path = media.make(tmp_path / "v.mp3", *both, *mp3, inputs=inputs)
    clip = decode(path, rates=[RATE])
    assert clip.duration_s == pytest.approx(30, abs=0.2)
    assert clip.remark([], [RATE]) == ""
    sound = decode(path, rates=[RATE], start=14.0, end=16.0).sound(RATE)
    assert isinstance(sound, Sound)
    loud = np.abs(sound.samples) > 0.01
    assert abs(loud.mean() - 0.5) < 0.1
    assert loud[: RATE // 2].mean() > 0.5 if loud_first else loud[: RATE // 2].mean() < 0.1


@pytest.mark.parametrize(("container", "codec"), [("h264", "libx264"), ("avi", "mpeg4")])
def test_a_container_without_presentation_times_has_a_length_and_limits(
    tmp_path: Path, container: str, codec: str
) -> None:
    source = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=4"]
    path = media.make(tmp_path / f"raw.{container}", "-c:v", codec, "-bf", "2", inputs=source)
    clip = read(path)
    assert clip.duration_s == pytest.approx(4.0, abs=0.1)
    assert len(frames_of(clip, SLOW).evenly(1.0, 99)) == 4
    with pytest.raises(MediaError, match="longer than the limit of 2 s"):
        read(path, max_duration_s=2)
