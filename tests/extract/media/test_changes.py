"""A frame is kept where a small part of it changed, and only then."""

from pathlib import Path

import cv2
import media
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2hf.extract.media.changes import changed
from m2hf.extract.media.decode import decode
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.views import FrameView
from m2hf.extract.ocr import Ocr

SAME = float(Ocr.model_fields["same"].default)
TITLES = ["the cat sat"] * 3 + ["the dog sat"] * 3 + ["the dog sits"] * 2


def frame_of(title: str) -> NDArray[np.uint8]:
    """(360, 640, 3): a soft background, and a subtitle of small letters, some 9 pixels high."""
    ramp = np.linspace(40, 120, 640, dtype=np.float32)
    gray = np.broadcast_to(ramp, (360, 640)).astype(np.uint8)
    drawn = np.ascontiguousarray(np.stack([gray] * 3, axis=2))
    white = (255, 255, 255)
    cv2.putText(drawn, title, (280, 335), cv2.FONT_HERSHEY_SIMPLEX, 0.4, white, 1, cv2.LINE_AA)
    return drawn


def subtitled(path: Path) -> NDArray[np.uint8]:
    """(F, 360, 640, 3): the titles, one a second, decoded from a lossy video."""
    raw = path.with_suffix(".rgb")
    raw.write_bytes(b"".join(frame_of(title).tobytes() for title in TITLES))
    given = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", "640x360"]
    media.make(path, "-c:v", "libx264", "-crf", "30", inputs=[*given, "-r", "1", "-i", str(raw)])
    view = FrameView()
    frames = decode(path, [view]).frames(view)
    assert isinstance(frames, Frames)
    return frames.pixels


def test_one_word_of_a_small_subtitle_is_a_change(tmp_path: Path) -> None:
    pixels = subtitled(tmp_path / "titles.mp4")
    assert len(pixels) == len(TITLES)
    apart = np.abs(np.diff(pixels.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    assert apart.max() < 0.5  # over the whole frame it is negligible
    assert changed(pixels, range(len(TITLES)), SAME) == [0, 3, 6]


def test_slow_change_is_measured_from_the_frame_kept_last() -> None:
    fading = np.stack([np.full((36, 64, 3), level, np.uint8) for level in range(0, 30, 3)])
    assert changed(fading, range(10), 7.0) == [0, 3, 6, 9]
    assert changed(fading, [1, 2, 9], 7.0) == [1, 9]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 60))
def test_against_a_naive_implementation(seed: int, same: float) -> None:
    """Blocks of 2 x 2 pixels, averaged in a loop; grey frames, whose grey levels are their own."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 80, (6, 36, 64))
    pixels = np.repeat(levels[..., None], 3, axis=3).astype(np.uint8)
    expected = [0]
    for index in range(1, 6):
        apart = np.abs(levels[index] - levels[expected[-1]])
        blocks = [
            apart[y : y + 2, x : x + 2].mean() for y in range(0, 36, 2) for x in range(0, 64, 2)
        ]
        if max(blocks) >= same:
            expected.append(index)
    assert changed(pixels, range(6), same) == expected
