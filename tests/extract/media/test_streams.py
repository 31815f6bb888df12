"""Which stream of a file is read, and what one that can't be read does to the others."""

from pathlib import Path

import media
import numpy as np
import pytest

from m2hf.errors import MediaError
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip, decode
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.probe import Probe, StreamKind, choose
from m2hf.extract.media.sound import Sound
from m2hf.extract.media.views import FrameView

VIEW = FrameView(fps=1.0)
RATE = 16000
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]


def read(path: Path) -> DecodedClip:
    return decode(path, [VIEW], [RATE])


def pitch(clip: DecodedClip) -> float:
    """The loudest frequency, in Hz."""
    sound = clip.sound(RATE)
    assert isinstance(sound, Sound)
    return float(np.argmax(np.abs(np.fft.rfft(sound.samples)))) / sound.duration_s


def colour(clip: DecodedClip) -> list[int]:
    """Of the first frame, each of red, green and blue rounded to 0 or 1."""
    frames = clip.frames(VIEW)
    assert isinstance(frames, Frames)
    return [round(float(v)) for v in frames.pixels[0].mean(axis=(0, 1)) / 255]


def two_sounds(path: Path, *dispositions: str) -> Path:
    """A video with a tone of 300 Hz and one of 3000 Hz."""
    inputs = ["-f", "lavfi", "-i", "color=red:size=64x48:duration=2"]
    for hertz in (300, 3000):
        inputs += ["-f", "lavfi", "-i", f"sine={hertz}:sample_rate=48000:duration=2"]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "2:a"]
    return media.make(path, *maps, *H264, "-c:a", "pcm_s16le", *dispositions, inputs=inputs)


@pytest.mark.parametrize(
    ("dispositions", "hertz", "number"),
    [
        (["-disposition:a:0", "0", "-disposition:a:1", "default"], 3000, 2),
        (["-disposition:a:0", "comment", "-disposition:a:1", "0"], 3000, 2),
        (["-disposition:a:0", "0", "-disposition:a:1", "0"], 300, 1),
    ],
)
def test_of_several_sounds_the_disposition_chooses_and_a_remark_says_so(
    tmp_path: Path, dispositions: list[str], hertz: int, number: int
) -> None:
    clip = read(two_sounds(tmp_path / "two.mkv", *dispositions))
    assert pitch(clip) == pytest.approx(hertz, abs=5)
    assert clip.remark([], [RATE]) == f"audio stream {number} of 2 was read"
    assert clip.remark([VIEW], []) == ""


@pytest.mark.parametrize("marked", [True, False])
def test_a_cover_is_not_the_video(tmp_path: Path, marked: bool) -> None:
    video = media.colours(tmp_path / "v.mp4", [("lime", 2.0)])
    cover = media.make(
        tmp_path / "c.png", "-frames:v", "1", inputs=["-f", "lavfi", "-i", "color=red:s=99x99"]
    )
    inputs = ["-i", str(cover), "-i", str(video)]
    marks = ["-disposition:v:0", "0", "-disposition:v:1", "default"] if marked else []
    both = ["-map", "0:v", "-map", "1", "-c", "copy", *marks]
    assert colour(read(media.make(tmp_path / "c.mkv", *both, inputs=inputs))) == [0, 1, 0]
    attached = media.make(
        tmp_path / "a.mp4", *both[:6], "-disposition:v:0", "attached_pic", inputs=inputs
    )
    assert colour(read(attached)) == [0, 1, 0]
    assert read(attached).remark([VIEW], [RATE]) == ""


def replaced(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    return path


def test_a_sound_that_has_no_decoder_leaves_the_frames(tmp_path: Path) -> None:
    path = media.colours(tmp_path / "a.mkv", [("lime", 2.0)], *H264, "-c:a", "libopus")
    clip = read(replaced(path, b"A_OPUS", b"A_XYZW"))
    assert colour(clip) == [0, 1, 0]
    for _ in range(2):
        with pytest.raises(MediaError, match="audio stream can't be decoded; ffmpeg has no dec"):
            clip.sound(RATE)
    assert decode(path, [VIEW]).remark([VIEW], []) == clip.remark([VIEW], []) == ""


def test_a_video_that_has_no_decoder_leaves_the_sound(tmp_path: Path) -> None:
    path = media.colours(tmp_path / "a.mkv", [("lime", 2.0)], *H264, "-c:a", "libopus")
    clip = read(replaced(path, b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"))
    assert pitch(clip) == pytest.approx(1000, abs=5)
    with pytest.raises(MediaError, match="video stream can't be decoded; ffmpeg has no decoder"):
        clip.frames(VIEW)


def headless_video(folder: Path) -> Path:
    """A recording whose video has no key frame and no parameters, so that its size is unknown."""
    whole = media.colours(folder / "whole.ts", [("lime", 2.0)], *H264, "-c:a", "mp2")
    units = "filter_units=remove_types=5|7|8"
    return media.rewrapped(whole, folder / "headless.ts", "-bsf:v", units)


def test_a_video_of_unknown_size_leaves_the_sound(tmp_path: Path) -> None:
    clip = read(headless_video(tmp_path))
    assert pitch(clip) == pytest.approx(1000, abs=5)
    assert clip.remark([], [RATE]) == ""
    with pytest.raises(MediaError, match="the video stream can't be decoded; "):
        clip.frames(VIEW)


def test_a_video_of_unknown_size_leaves_the_other_one(tmp_path: Path) -> None:
    inputs = ["-i", str(headless_video(tmp_path)), "-i", str(tmp_path / "whole.ts")]
    maps = ["-map", "0:v", "-map", "1:v", "-map", "1:a", "-c", "copy"]
    clip = read(media.make(tmp_path / "both.ts", *maps, inputs=inputs))
    assert colour(clip) == [0, 1, 0]
    assert pitch(clip) == pytest.approx(1000, abs=5)
    assert clip.remark([VIEW], []) == "video stream 2 of 2 was read"


def test_a_stream_without_a_packet_is_empty(tmp_path: Path) -> None:
    silent = ["-af", "atrim=end=0", "-c:a", "pcm_s16le"]
    path = media.colours(tmp_path / "a.mkv", [("lime", 2.0)], *H264, *silent)
    assert read(path).sound(RATE) == Absent("the audio stream is empty")
    assert colour(read(path)) == [0, 1, 0]


def stereo(path: Path, right: str, codec: str = "pcm_s16le") -> Path:
    tone = f"aevalsrc=0.3*sin(2000*PI*t)|{right}:s=48000:d=2"
    return media.make(path, "-c:a", codec, inputs=["-f", "lavfi", "-i", tone])


def test_channels_that_cancel_out_are_not_silence(tmp_path: Path) -> None:
    opposite = decode(stereo(tmp_path / "o.wav", "-0.3*sin(2000*PI*t)"), rates=[RATE])
    alike = decode(stereo(tmp_path / "a.wav", "0.3*sin(2000*PI*t)"), rates=[RATE])
    sounds = opposite.sound(RATE), alike.sound(RATE)
    assert isinstance(sounds[0], Sound)
    assert isinstance(sounds[1], Sound)
    np.testing.assert_allclose(sounds[0].samples, sounds[1].samples, atol=1e-4)
    assert opposite.remark([], [RATE]) == (
        "the channels cancel each other out, so the first one was read"
    )
    assert alike.remark([], [RATE]) == ""


@pytest.mark.parametrize("right", ["0", "0.0001*sin(500*PI*t)"])
def test_quiet_channels_are_mixed(tmp_path: Path, right: str) -> None:
    tone = f"aevalsrc=0.002*sin(2000*PI*t)|{right}:s=48000:d=2"
    path = media.make(tmp_path / "q.wav", inputs=["-f", "lavfi", "-i", tone])
    sound = decode(path, rates=[RATE]).sound(RATE)
    assert isinstance(sound, Sound)
    assert np.abs(sound.samples).max() == pytest.approx(0.001, rel=0.1)
    assert sound.remark == ""


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_mapped_to_sdr(tmp_path: Path, transfer: str) -> None:
    to_hdr = (
        "format=gbrp,setparams=color_primaries=bt709:color_trc=bt709:colorspace=gbr,"
        f"zscale=t=linear,zscale=p=bt2020,zscale=t={transfer}:m=bt2020nc:r=tv,format=yuv444p10le"
    )
    marks = ["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc"]
    for name, right in (("red", [1, 0, 0]), ("lime", [0, 1, 0]), ("gray", [0.5, 0.5, 0.5])):
        source = ["-f", "lavfi", "-i", f"color={name}:size=65x47:duration=0.2"]
        codec = ["-c:v", "ffv1", *marks]
        path = media.make(tmp_path / f"{name}.mkv", "-vf", to_hdr, *codec, inputs=source)
        for view in (VIEW, FrameView(fps=1.0, size=(33, 17))):
            frames = decode(path, [view]).frames(view)
            assert isinstance(frames, Frames)
            np.testing.assert_allclose(frames.pixels[0].mean(axis=(0, 1)) / 255, right, atol=0.15)


LOG = """Input #0, matroska,webm, from 'file:a.mkv':
  Metadata:
    title           : x
  Stream #0:0: Video: vp8, 8x8 (default)
Output #0, null, to 'pipe:':
  Stream #0:0: Audio: mp3, 8000 Hz, mono
  Duration: 01:00:02.50, start: 1.500000, bitrate: 54 kb/s
  Stream #0:0(eng): Video: h264 (High), yuv420p10le(tv, bt2020nc/bt2020/smpte2084), 64x48 (default)
Output #0, null, to 'pipe:':
  Metadata:
    encoder         : Lavf63.1.102
  Stream #0:0: Video: h264 (High), yuv420p10le(tv, bt2020nc/bt2020/smpte2084), 64x48 (default)
  Stream #0:1: Video: png, rgb24(pc), 600x600 (attached pic)
  Stream #0:2: Audio: none (apac / 0x63617061), 48000 Hz, stereo (default)
  Stream #0:3: Audio: aac (LC), 48000 Hz, mono, fltp (comment)
  Stream #0:4: Subtitle: subrip (default)
"""


def test_streams_are_read_from_the_list_after_all_text_of_the_file() -> None:
    probe = Probe()
    for line in LOG.splitlines():
        probe.read(line)
    assert [stream.specifier for stream in probe.streams] == ["v:0", "v:1", "a:0", "a:1", "s:0"]
    assert (probe.container, probe.duration_s, probe.start_s) == ("matroska,webm", 3602.5, 1.5)
    video, audio = choose(probe, StreamKind.VIDEO), choose(probe, StreamKind.AUDIO)
    assert video is not None
    assert audio is not None
    assert (video.stream.specifier, video.stream.transfer, video.remark) == ("v:0", "smpte2084", "")
    assert (audio.stream.specifier, audio.stream.mono) == ("a:1", True)  # the other has no decoder
    assert audio.remark == "audio stream 2 of 2 was read"


@pytest.mark.parametrize(
    "text",
    [
        "[showinfo@v0 @ x] pts_time: abc y s:1x1 z",
        "[showinfo@v0 @ x] n: 0 pts: 0 pts_time: 7 duration_time: 9 s:1x1 z",
        "Duration: 99:00:00.00, start: 5.0",
        "\n  Stream #0:1: Video: h264, 8x8 (default)",
        "\nOutput #0, null, to 'pipe:':\n  Stream #0:0: Audio: mp3, 8000 Hz",
        "Picture size 1x1 exceeds specified max pixel count",
        "0, 0, 0, 1, 2, 0x0\n#tb 0: 1/0",
        "Cannot allocate memory: error, invalid data found",
    ],
)
def test_nothing_that_a_file_says_is_taken_for_what_ffmpeg_says(tmp_path: Path, text: str) -> None:
    plain = media.colours(tmp_path / "plain.mkv", [("lime", 2.0)])
    marks = ["-metadata", f"title={text}", "-metadata:s:v", f"title={text}"]
    marks += ["-metadata:s:a", f"language=x): Video: h264 ({text}", "-metadata", f"{text}=x"]
    titled = read(media.rewrapped(plain, tmp_path / "titled.mkv", *marks))
    right = read(plain)
    frames, expected = titled.frames(VIEW), right.frames(VIEW)
    assert isinstance(frames, Frames)
    assert isinstance(expected, Frames)
    np.testing.assert_array_equal(frames.start_s, expected.start_s)
    np.testing.assert_array_equal(frames.pixels, expected.pixels)
    assert titled.duration_s == right.duration_s
    assert titled.remark([VIEW], [RATE]) == ""
