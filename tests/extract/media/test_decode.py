"""Decoding: the outcome of every odd file, times from the stream, and one decode per clip."""

import re
import subprocess
from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest

from m2hf.cli.recipe import load_recipe
from m2hf.errors import ConfigError, MediaError
from m2hf.extract.audio import Audio
from m2hf.extract.logmel import LogMel
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip, decode
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.sound import Sound
from m2hf.extract.media.views import FrameView, MediaLimits

SLOW = FrameView(fps=1.0)
FAST = FrameView(fps=8.0, size=(64, 48), gray=True)
RATE = 16000


def read(path: Path, **more: Any) -> DecodedClip:
    return decode(path, [SLOW, FAST], [RATE], **more)


def test_frames_and_sound_of_a_good_file(odd_media: dict[str, Path]) -> None:
    clip = read(odd_media["good"])
    slow, fast, sound = clip.frames(SLOW), clip.frames(FAST), clip.sound(RATE)
    assert isinstance(slow, Frames)
    assert isinstance(fast, Frames)
    assert isinstance(sound, Sound)
    assert slow.pixels.shape == (2, 240, 320, 3)
    assert fast.pixels.shape == (16, 48, 64)
    np.testing.assert_allclose(slow.start_s, [0, 1], atol=0.021)
    np.testing.assert_allclose(fast.start_s, np.arange(16) / 8, atol=0.041)
    assert (fast.end_s[:-1] == fast.start_s[1:]).all()
    assert fast.end_s[-1] <= clip.duration_s
    assert abs(clip.duration_s - 2.0) < 0.1
    spectrum = np.abs(np.fft.rfft(sound.samples))
    assert abs(np.argmax(spectrum) / sound.duration_s - 440) < 2
    assert clip.remark([SLOW, FAST], [RATE]) == ""


def test_one_process_opens_the_file_and_one_decodes_all_views_and_rates(
    odd_media: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    popen = subprocess.Popen

    def counting(command: list[str], **more: Any) -> Any:
        started.append(command)
        return popen(command, **more)

    monkeypatch.setattr("m2hf.extract.media.ffmpeg_process.subprocess.Popen", counting)
    decode(odd_media["good"], [SLOW, FAST, FrameView(fps=2.0)], [RATE, 32000])
    assert len(started) == 2
    assert sum("rawvideo" in command for command in started) == 1
    for command in started:
        assert all(isinstance(part, str) for part in command)
        assert "file,pipe" in command


def test_streams_that_are_not_there_are_absent_not_zeros(odd_media: dict[str, Path]) -> None:
    silent, blind = read(odd_media["no_audio"]), read(odd_media["audio_only"])
    assert silent.sound(RATE) == Absent("no audio stream")
    assert isinstance(silent.frames(SLOW), Frames)
    assert blind.frames(SLOW) == Absent("no video stream")
    assert isinstance(blind.sound(RATE), Sound)
    assert abs(blind.duration_s - 2.0) < 0.1


def test_a_single_frame(odd_media: dict[str, Path]) -> None:
    frames = read(odd_media["one_frame"]).frames(FAST)
    assert isinstance(frames, Frames)
    assert len(frames) == 1
    assert 0 <= frames.start_s[0] <= frames.end_s[0] <= 0.125


def test_a_truncated_file_keeps_its_good_part_with_a_remark(odd_media: dict[str, Path]) -> None:
    clip = read(odd_media["truncated"])
    frames = clip.frames(SLOW)
    assert isinstance(frames, Frames)
    assert 2 <= len(frames) <= 7
    assert clip.duration_s == 8.0
    expected = r"the frames end at [3-6]\.\d of 8\.0 s; the sound ends at [3-6]\.\d of 8\.0 s"
    assert re.fullmatch(expected, clip.remark([FAST], [RATE]))
    assert "frames" not in clip.remark([], [RATE])


def test_a_remark_does_not_depend_on_who_shares_the_decode(odd_media: dict[str, Path]) -> None:
    for name in ("good", "no_audio", "audio_only", "one_frame", "truncated"):
        shared = read(odd_media[name])
        for views, rates in (([SLOW], []), ([FAST], []), ([], [RATE])):
            alone = decode(odd_media[name], views, rates)
            assert alone.remark(views, rates) == shared.remark(views, rates)
            for view in views:
                own, others = alone.frames(view), shared.frames(view)
                assert type(own) is type(others)
                if isinstance(own, Frames) and isinstance(others, Frames):
                    np.testing.assert_array_equal(own.pixels, others.pixels)
                    np.testing.assert_array_equal(own.end_s, others.end_s)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zero_bytes", "the file is empty"),
        ("garbage", "no video and no audio stream; .+"),
        ("headless", "no video and no audio stream; .*moov atom not found"),
    ],
)
def test_an_unreadable_file_is_a_media_error(
    odd_media: dict[str, Path], name: str, message: str
) -> None:
    with pytest.raises(MediaError, match=message) as caught:
        read(odd_media[name])
    assert str(odd_media[name].parent) not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"no such file: none\.mp4"):
        read(tmp_path / "none.mp4")


def test_rotation_is_applied(tmp_path: Path) -> None:
    frames = read(media.rotated(tmp_path / "r.mp4")).frames(SLOW)
    assert isinstance(frames, Frames)
    assert frames.pixels.shape[1:] == (320, 240, 3)


def test_variable_frame_rate_keeps_the_streams_times(tmp_path: Path) -> None:
    clip = decode(media.variable_rate(tmp_path / "v.mp4"), [FrameView(fps=25.0)])
    frames = clip.frames(FrameView(fps=25.0))
    assert isinstance(frames, Frames)
    steps = np.diff(frames.start_s)
    assert len(frames) == 30
    np.testing.assert_allclose(steps[:24], 0.04, atol=0.002)
    np.testing.assert_allclose(steps[26:], 0.2, atol=0.002)


def test_sound_that_begins_later_is_padded_so_that_sample_0_is_time_0(tmp_path: Path) -> None:
    sound = read(media.late_audio(tmp_path / "l.mp4")).sound(RATE)
    assert isinstance(sound, Sound)
    loud = np.abs(sound.samples) > 0.01
    assert abs(np.argmax(loud) / RATE - 1.0) < 0.06
    assert abs(sound.duration_s - 3.0) < 0.1


def tone_of(clip: DecodedClip) -> float:
    """The loudest frequency, in Hz."""
    sound = clip.sound(RATE)
    assert isinstance(sound, Sound)
    assert np.abs(sound.samples).max() > 0.05
    return float(np.argmax(np.abs(np.fft.rfft(sound.samples)))) / sound.duration_s


@pytest.mark.parametrize("rate", [8000, 96000])
def test_sound_of_any_rate_keeps_its_pitch_and_length(tmp_path: Path, rate: int) -> None:
    clip = read(media.sound_of(tmp_path / "rate.mkv", rate))
    sound = clip.sound(RATE)
    assert isinstance(sound, Sound)
    assert len(sound.samples) == 2 * RATE
    assert abs(tone_of(clip) - 440) < 1
    assert clip.remark([SLOW], [RATE]) == ""


@pytest.mark.parametrize("count", [1, 2, 6, 7])
def test_channels_are_mixed_as_loud_as_they_are(tmp_path: Path, count: int) -> None:
    """As in the networks' training: by default, ffmpeg adds float channels up, beyond 1."""
    sound = read(media.channels(tmp_path / "alike.mkv", count, alike=True)).sound(RATE)
    assert isinstance(sound, Sound)
    assert np.abs(sound.samples[100:-100]).max() == pytest.approx(0.5, abs=0.01)


def test_each_of_seven_channels_is_in_the_mix(tmp_path: Path) -> None:
    clip = read(media.channels(tmp_path / "seven.mkv", 7))
    assert abs(tone_of(clip) - 440) < 1
    assert isinstance(clip.frames(SLOW), Frames)


def test_channels_without_a_known_layout_are_a_media_error(tmp_path: Path) -> None:
    """ffmpeg has no mono mix of nine. The frames are there nevertheless."""
    clip = read(media.channels(tmp_path / "nine.mkv", 9))
    with pytest.raises(MediaError, match=r"the audio stream can't be decoded; .*channels"):
        clip.sound(RATE)
    assert isinstance(clip.frames(SLOW), Frames)


@pytest.mark.parametrize(
    ("video_s", "sound_s", "frame_count", "remark"),
    [
        (2, 5, 2, "the frames end at 2.0 of 5.0 s"),
        (5, 2, 5, "the sound ends at 2.0 of 5.0 s"),
    ],
)
def test_streams_that_do_not_end_together_keep_their_own_length(
    tmp_path: Path, video_s: int, sound_s: int, frame_count: int, remark: str
) -> None:
    clip = read(media.uneven(tmp_path / "uneven.mp4", video_s, sound_s))
    frames, sound = clip.frames(SLOW), clip.sound(RATE)
    assert isinstance(frames, Frames)
    assert isinstance(sound, Sound)
    assert abs(clip.duration_s - 5) < 0.1
    assert len(frames) == frame_count
    assert frames.end_s[-1] == pytest.approx(video_s, abs=0.05)
    assert sound.duration_s == pytest.approx(sound_s, abs=0.05)
    assert clip.remark([SLOW], [RATE]) == remark


def odd_sounds(folder: Path) -> dict[str, tuple[Path, float]]:
    """Files with unusual sound, and its duration in seconds."""
    return {
        "8 kHz": (media.sound_of(folder / "8.mkv", 8000), 2.0),
        "96 kHz": (media.sound_of(folder / "96.mkv", 96000), 2.0),
        "seven channels": (media.channels(folder / "seven.mkv", 7), 2.0),
        "longer than the video": (media.uneven(folder / "sound.mp4", 2, 5), 5.0),
        "shorter than the video": (media.uneven(folder / "pictures.mp4", 5, 2), 2.0),
    }


def test_extractors_of_sound_take_all_of_it(tmp_path: Path) -> None:
    sounds = odd_sounds(tmp_path)
    for extractor in (LogMel(), Audio(model="m2hf-tiny", pretrained="")):
        session = extractor.open("cpu")
        for name, (path, seconds) in sounds.items():
            features = session.extract(decode(path, rates=extractor.sample_rates()))
            assert features.start_s[0] == 0, name
            assert features.end_s[-1] == pytest.approx(seconds, abs=0.05), name


def test_a_part_of_a_file_has_times_from_its_own_start(odd_media: dict[str, Path]) -> None:
    clip = read(odd_media["good"], start=0.5, end=1.5)
    frames = clip.frames(FAST)
    assert isinstance(frames, Frames)
    assert abs(clip.duration_s - 1.0) < 0.05
    assert frames.start_s[0] < 0.05
    assert frames.end_s[-1] <= 1.0 + 1e-9
    whole = read(odd_media["good"]).frames(FAST)
    assert isinstance(whole, Frames)
    difference = np.abs(frames.pixels[0].astype(int) - whole.pixels[4].astype(int)).mean()
    assert difference < 12


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (MediaLimits(max_pixels=320 * 239), "frames of 320x240 are over the limit of 76480 pixels"),
        (MediaLimits(max_duration_s=1.0), "longer than the limit of 1 s"),
        (MediaLimits(max_output_mb=0), "over the limit of 0 MB of decoded data"),
        (MediaLimits(timeout_s=0.001), "over the limit of 0.001 s to decode"),
    ],
)
def test_each_limit_is_an_error_that_names_it(
    odd_media: dict[str, Path], limits: MediaLimits, message: str
) -> None:
    with pytest.raises(MediaError, match=message):
        read(odd_media["good"], limits=limits)


@pytest.mark.parametrize("kind", ["concat", "hls"])
def test_a_playlist_reaches_no_other_file(
    tmp_path: Path, odd_media: dict[str, Path], kind: str
) -> None:
    target = odd_media["good"]
    text = {
        "concat": f"ffconcat version 1.0\nfile '{target}'\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
    }[kind]
    playlist = tmp_path / "list.mp4"
    playlist.write_text(text, encoding="utf-8")
    with pytest.raises(MediaError):
        read(playlist)


def test_a_hostile_name_is_only_a_name(tmp_path: Path, odd_media: dict[str, Path]) -> None:
    for name in ("-i.mp4", "concat:a|b.mp4", "%03d.mp4", "a'b;c $(x).mp4"):
        path = tmp_path / name
        path.write_bytes(odd_media["good"].read_bytes())
        assert isinstance(read(path).frames(SLOW), Frames)


def test_non_square_pixels_become_square(tmp_path: Path) -> None:
    path = media.make(tmp_path / "s.mp4", "-vf", "setsar=2/1", "-c:v", "libx264", "-an")
    frames = read(path).frames(SLOW)
    assert isinstance(frames, Frames)
    assert frames.pixels.shape[1:] == (240, 640, 3)


def test_real_clips(shared_data: Path) -> None:
    clip = read(shared_data / "clips" / "video7500.mp4")
    assert clip.sound(RATE) == Absent("no audio stream")
    frames = clip.frames(SLOW)
    assert isinstance(frames, Frames)
    assert len(frames) == 17
    assert abs(clip.duration_s - 16.67) < 0.01


@pytest.mark.parametrize(
    ("extractor", "gray", "message"),
    [
        ("clip", True, "reads RGB frames; gray must be false"),
        ("ocr", True, "reads RGB frames; gray must be false"),
        ("flow", False, "reads grey frames; gray must be true"),
    ],
)
def test_a_view_of_the_wrong_colours_is_a_config_error(
    extractor: str, gray: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"extract\.{extractor}\.view = .*{message}"):
        load_recipe(None, [f"extract.{extractor}.view.gray={str(gray).lower()}"])
