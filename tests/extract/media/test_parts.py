"""A part of a file has what is on the screen and heard within it, whatever the container."""

from pathlib import Path

import media
import numpy as np
import pytest

from m2hf.errors import MediaError
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip, decode
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.sound import Sound
from m2hf.extract.media.views import FrameView

VIEW = FrameView(fps=2.0)
RATE = 16000
RGB = {"red": (1, 0, 0), "lime": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}
SCENES = [("red", 3.0), ("lime", 3.0), ("blue", 3.0), ("yellow", 3.0)] * 2
LATE_KEYS = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "150"]
LATE_KEYS += ["-keyint_min", "150", "-sc_threshold", "0", "-c:a", "mp2"]


def part(path: Path, start: float, end: float | None = None) -> DecodedClip:
    return decode(path, [VIEW], [RATE], start=start, end=end)


def seen(clip: DecodedClip) -> list[tuple[float, str]]:
    """When each colour begins."""
    frames = clip.frames(VIEW)
    assert isinstance(frames, Frames)
    means = frames.pixels.mean(axis=(1, 2)) / 255
    names = [min(RGB, key=lambda n: float(np.abs(m - RGB[n]).sum())) for m in means]
    changes = [n for n, name in enumerate(names) if n == 0 or name != names[n - 1]]
    return [(round(float(frames.start_s[n]), 2), names[n]) for n in changes]


def end_of(clip: DecodedClip) -> float:
    frames = clip.frames(VIEW)
    assert isinstance(frames, Frames)
    return float(frames.end_s[-1])


def heard(clip: DecodedClip) -> tuple[float, float]:
    """When the tone begins and ends, in seconds."""
    sound = clip.sound(RATE)
    assert isinstance(sound, Sound)
    loud = np.flatnonzero(np.abs(sound.samples) > 0.1)
    return float(loud[0] / RATE), float(loud[-1] / RATE)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One video of 24 s, with a key frame each 6 s, in several containers."""
    folder = tmp_path_factory.mktemp("twins")
    first = media.colours(folder / "ts.ts", SCENES, *LATE_KEYS)
    made = {"ts": first}
    for name in ("mp4", "mkv"):
        made[name] = media.rewrapped(first, folder / f"{name}.{name}")
    made["live"] = media.rewrapped(first, folder / "live.mkv", "-live", "1")
    made["fragmented"] = media.rewrapped(first, folder / "f.mp4", "-movflags", "frag_keyframe")
    return made


@pytest.mark.parametrize("name", ["ts", "mp4", "mkv", "live", "fragmented"])
@pytest.mark.parametrize(
    ("start", "end", "right"),
    [
        (0.5, 2.5, [(0.0, "red")]),
        (2.0, 7.0, [(0.0, "red"), (1.0, "lime"), (4.0, "blue")]),
        (13.0, 16.5, [(0.0, "red"), (2.0, "lime")]),
        (16.0, 18.5, [(0.0, "lime"), (2.0, "blue")]),
    ],
)
def test_a_part_has_the_frames_on_the_screen_in_every_container(
    twins: dict[str, Path], name: str, start: float, end: float, right: list[tuple[float, str]]
) -> None:
    clip = part(twins[name], start, end)
    found = seen(clip)
    assert [colour for _, colour in found] == [colour for _, colour in right]
    np.testing.assert_allclose([t for t, _ in found], [t for t, _ in right], atol=0.08)
    assert end_of(clip) == pytest.approx(end - start, abs=0.05)
    assert end_of(clip) <= end - start + 1e-9
    assert clip.remark([VIEW], [RATE]) == ""


@pytest.mark.parametrize("name", ["ts", "mp4", "mkv", "live", "fragmented"])
def test_a_part_has_the_sound_within_it(twins: dict[str, Path], name: str) -> None:
    clip = part(twins[name], 0.5, 2.5)
    np.testing.assert_allclose(heard(clip), [0.5, 1.5], atol=0.06)
    sound = clip.sound(RATE)
    assert isinstance(sound, Sound)
    assert sound.duration_s == pytest.approx(2.0, abs=0.001)


def test_the_sound_of_a_part_after_a_seek_is_that_of_the_whole(tmp_path: Path) -> None:
    chirp = ["-f", "lavfi", "-i", "aevalsrc=0.5*sin(100*t*t):s=48000:d=30"]
    path = media.make(tmp_path / "chirp.mp4", "-c:a", "aac", inputs=chirp)
    whole, some = decode(path, rates=[RATE]).sound(RATE), part(path, 20.0, 24.0).sound(RATE)
    assert isinstance(whole, Sound)
    assert isinstance(some, Sound)
    expected = whole.samples[20 * RATE : 24 * RATE]
    np.testing.assert_allclose(some.samples[100:-100], expected[100:-100], atol=0.01)


def test_slides_show_the_frame_that_stays(tmp_path: Path) -> None:
    made = media.slides(tmp_path / "s.mp4", ["red", "lime", "blue", "yellow"], 5)
    for slides in (made, media.rewrapped(made, tmp_path / "s.mkv")):
        assert seen(part(slides, 0.0)) == [(0, "red"), (5, "lime"), (10, "blue"), (15, "yellow")]
        assert seen(part(slides, 6.0, 9.0)) == [(0, "lime")]
        assert end_of(part(slides, 6.0, 9.0)) == 3.0
        assert seen(part(slides, 7.0, 14.0)) == [(0, "lime"), (3, "blue")]
        assert seen(part(slides, 16.0, 19.0)) == [(0, "yellow")]
        assert seen(part(slides, 12.0, 20.0)) == [(0, "blue"), (3, "yellow")]


def test_a_video_that_begins_late_is_not_read_past_the_part(tmp_path: Path) -> None:
    whole = media.colours(tmp_path / "whole.mp4", SCENES)
    inputs = ["-itsoffset", "3", "-i", str(whole), "-i", str(whole)]
    late = media.make(
        tmp_path / "late.mp4", "-map", "0:v", "-map", "1:a", "-c", "copy", inputs=inputs
    )
    clip = part(late, 0.0, 4.0)
    assert seen(clip) == [(3.0, "red")]
    assert end_of(clip) <= 4.0
    assert clip.duration_s == 4.0
    early = part(late, 0.5, 2.5)
    assert early.frames(VIEW) == Absent("no frame in this part")
    assert isinstance(early.sound(RATE), Sound)


def test_after_the_end_of_the_video_there_is_no_frame(tmp_path: Path) -> None:
    path = media.uneven(tmp_path / "u.mp4", picture_s=2, sound_s=8)
    clip = part(path, 4.0, 6.0)
    assert clip.frames(VIEW) == Absent("no frame in this part")
    assert isinstance(clip.sound(RATE), Sound)


def test_a_part_without_sound_is_absent_and_takes_no_frame_with_it(tmp_path: Path) -> None:
    path = media.uneven(tmp_path / "u.mp4", picture_s=8, sound_s=2)
    clip = part(path, 4.0, 6.0)
    assert clip.sound(RATE) == Absent("no sound in this part")
    assert isinstance(clip.frames(VIEW), Frames)


def test_a_part_that_begins_after_the_end(tmp_path: Path) -> None:
    good = media.good(tmp_path / "g.mp4")
    shifted = media.rewrapped(good, tmp_path / "later.mkv", "-output_ts_offset", "100")
    for path, start in ((good, 20.0), (shifted, 20.0), (shifted, 5.0)):
        with pytest.raises(MediaError, match=rf"start {start:g} s is after the end .*2\.\d s"):
            part(path, start, start + 4)


def test_a_part_that_ends_after_the_end_is_as_long_as_it_is(tmp_path: Path) -> None:
    clip = part(media.good(tmp_path / "g.mp4"), 1.0, 30.0)
    assert clip.duration_s == pytest.approx(1.0, abs=0.05)
    assert clip.remark([VIEW], [RATE]) == ""
