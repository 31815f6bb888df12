"""Thumbnails in a store: their content and times, and that no text output prints them."""

import io
from pathlib import Path

import media
import numpy as np
import pytest
from PIL import Image

from m2hf.errors import ShardError
from m2hf.extract.media.decode import decode
from m2hf.extract.media.frames import Frames
from m2hf.extract.thumbnail import Thumbnailer
from m2hf.features import Features
from m2hf.keys import bucket_of, canonical_json
from m2hf.layout import StoreLayout
from m2hf.pipelines.timeline.page import page
from m2hf.pipelines.timeline.text import lines
from m2hf.pipelines.timeline.timeline import Timeline
from m2hf.shard import ShardItem, write_shard
from m2hf.shard_header import ShardHeader
from m2hf.thumbnails import thumbnails


def extracted(path: Path, **settings: int) -> Features:
    declared = Thumbnailer.model_validate(settings)
    return declared.open("cpu").extract(decode(path, declared.views()))


def test_thumbnails_are_even_over_the_clip_and_fit_the_bounds(tmp_path: Path) -> None:
    path = media.good(tmp_path / "v.mp4", seconds=8)
    features = extracted(path)
    assert features.start_s.tolist() == [1.0, 3.0, 5.0, 7.0]  # the middles of four equal parts
    frames = decode(path, Thumbnailer().views()).frames(Thumbnailer().view)
    assert isinstance(frames, Frames)
    for thumbnail, colour in zip(thumbnails(features), features.values, strict=True):
        image = np.asarray(Image.open(io.BytesIO(thumbnail.jpeg)))
        assert image.shape == (120, 160, 3)
        np.testing.assert_allclose(image.mean(axis=(0, 1)) / 255, colour, atol=0.01)
        frame = frames.pixels[int(thumbnail.start_s)].astype(int)
        assert np.abs(image - frame).mean() < 12  # of 255: JPEG is lossy, and colours are halved
    small = extracted(path, max_side=64, max_frames=1, quality=30)
    (thumbnail,) = thumbnails(small)
    assert max(Image.open(io.BytesIO(thumbnail.jpeg)).size) == 64
    assert len(thumbnail.jpeg) < 3000


def test_show_counts_thumbnails_and_prints_none(tmp_path: Path) -> None:
    features = extracted(media.good(tmp_path / "v.mp4", seconds=2))
    layout = StoreLayout(tmp_path / "store", "mine")
    layout.record(1)
    header = ShardHeader(
        "mine", "thumbnail", 1, "f" * 64, bucket_of("v", 1), 1, "", {}, {}, {}, Thumbnailer.columns
    )
    path = layout.shard("thumbnail", header.fingerprint, 0, 1)
    write_shard(path, header, [ShardItem("v", features, "0" * 64)], "float32", 3)
    timeline = Timeline.read(layout, "v", None, ())
    size = sum(len(thumbnail.jpeg) for thumbnail in thumbnails(features)) / 1000
    assert f"ok; 2 thumbnails, {size:.1f} kB, 0.0 to 2.0 s" in " ".join(lines(timeline))
    assert features.texts is not None
    for shown in (
        "\n".join(lines(timeline)),
        canonical_json(timeline.as_json()),
        page(timeline, None),
    ):
        assert features.texts[0][:40] not in shown


def test_a_string_that_is_no_jpeg_is_an_error() -> None:
    one = np.ones(1)
    for text in ("words", "AAAA", "\u00e9"):
        wrong = Features(np.ones((1, 3)), one, one, (text,), one)
        with pytest.raises(ShardError, match=r"at 1\.0 s is no JPEG file in base64"):
            list(thumbnails(wrong))
