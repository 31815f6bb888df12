"""Decoded data is equal in memory and in a file, is bounded, and leaves no file behind."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.errors import MediaError, ResourceError
from m2hf.extract.base import MediaExtractor
from m2hf.extract.logmel import LogMel
from m2hf.extract.media.decode import decode
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.sound import Sound
from m2hf.extract.media.spool import Spool
from m2hf.extract.media.views import FrameView, MediaLimits
from m2hf.pipelines.config import ExtractConfig

CONFIG = ExtractConfig.model_validate(
    {
        "encoder": {"model": "m2hf-tiny", "pretrained": ""},
        "motion": {"model": "s3d", "pretrained": "", "fps": 8.0},
        "audio": {"model": "m2hf-tiny", "pretrained": ""},
    }
)
MAPPED = MediaLimits(memory_mb=0)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=400_000)), max_size=12),
    st.integers(0, 2),
)
def test_outputs_are_what_was_appended_whatever_stays_in_memory(
    chunks: list[tuple[int, bytes]], memory_mb: int
) -> None:
    expected: dict[int, bytes] = {}
    with Spool(memory_mb, 100) as spool:
        for output, chunk in chunks:
            spool.append(output, chunk)
            expected[output] = expected.get(output, b"") + chunk
            assert sum(map(len, spool._buffers.values())) <= memory_mb << 20
        found = {n: spool.take(n).tobytes() for n in range(3)}
    assert found == {n: expected.get(n, b"") for n in range(3)}


def test_too_much_decoded_data_is_a_media_error() -> None:
    with Spool(0, 1) as spool:
        spool.append(0, bytes(1 << 19))
        spool.append(1, bytes(1 << 19))
        with pytest.raises(MediaError, match="over the limit of 1 MB of decoded data"):
            spool.append(0, b"x")


def test_a_mapped_clip_is_the_clip(odd_media: dict[str, Path], tmp_path: Path) -> None:
    views, rates = [FrameView(fps=25.0), FrameView(fps=8.0, size=(64, 48), gray=True)], [16000]
    limits = MAPPED.model_copy(update={"spool_folder": str(tmp_path)})
    for name in ("good", "truncated", "audio_only", "no_audio"):
        held = decode(odd_media[name], views, rates)
        mapped = decode(odd_media[name], views, rates, limits)
        assert list(tmp_path.iterdir()) == []
        assert (mapped.duration_s, mapped.sha256) == (held.duration_s, held.sha256)
        assert mapped.remark(views, rates) == held.remark(views, rates)
        for view in views:
            one, two = held.frames(view), mapped.frames(view)
            assert type(one) is type(two)
            if isinstance(one, Frames) and isinstance(two, Frames):
                np.testing.assert_array_equal(two.pixels, one.pixels)
                np.testing.assert_array_equal(two.end_s, one.end_s)
                assert not two.pixels.flags.writeable
        sounds = held.sound(16000), mapped.sound(16000)
        assert type(sounds[0]) is type(sounds[1])
        if isinstance(sounds[0], Sound) and isinstance(sounds[1], Sound):
            np.testing.assert_array_equal(sounds[1].samples, sounds[0].samples)
            assert not sounds[1].samples.flags.writeable


@pytest.mark.parametrize("name", ["clip", "flow", "logmel", "motion", "audio"])
def test_a_mapped_clip_gives_the_same_features(odd_media: dict[str, Path], name: str) -> None:
    extractor = CONFIG.extractor(name)
    assert isinstance(extractor, MediaExtractor)
    session = extractor.open("cpu")
    found = [
        session.extract(
            decode(odd_media["good"], extractor.views(), extractor.sample_rates(), limits)
        )
        for limits in (MediaLimits(), MAPPED)
    ]
    np.testing.assert_array_equal(found[1].values, found[0].values)
    np.testing.assert_array_equal(found[1].end_s, found[0].end_s)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the size of files, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_resource_error(odd_media: dict[str, Path], tmp_path: Path) -> None:
    limits = MediaLimits(memory_mb=0, spool_folder=str(tmp_path))
    expected = rf"{tmp_path}: can't store decoded data \(File too large\); free some space, or set"
    with largest_file(100_000), pytest.raises(ResourceError, match=expected):
        decode(odd_media["good"], [FrameView()], [16000], limits)


def test_a_missing_folder_is_a_resource_error(odd_media: dict[str, Path], tmp_path: Path) -> None:
    limits = MediaLimits(memory_mb=0, spool_folder=str(tmp_path / "none"))
    expected = r"none: can't store decoded data \(No such file or directory\).*spool_folder"
    with pytest.raises(ResourceError, match=expected):
        decode(odd_media["good"], [FrameView()], limits=limits)


def test_the_default_limit_is_enough_for_three_hours() -> None:
    """With square frames, which have the most pixels for one longer side."""
    untrained = {"pretrained": ""}  # views and rates are those of the published weights
    config = ExtractConfig.model_validate({"audio": untrained, "motion": untrained})
    media = [e for e in map(config.extractor, config.extractors) if isinstance(e, MediaExtractor)]
    views = {view for extractor in media for view in extractor.views()}
    rates = {rate for extractor in media for rate in extractor.sample_rates()}
    frame_bytes = (
        view.fps * view.channels * np.prod(view.size or (view.max_side, view.max_side))
        for view in views
    )
    total = 3 * 3600 * (sum(map(float, frame_bytes)) + sum(4 * rate for rate in rates))
    assert total <= MediaLimits().max_output_mb << 20


def test_log_mel_in_blocks_is_log_mel_of_the_whole_sound(tmp_path: Path) -> None:
    """70 s are two blocks of windows; librosa alone takes the whole sound at once."""
    import librosa
    import media

    noise = ["-f", "lavfi", "-i", "anoisesrc=d=70:c=pink:seed=3:sample_rate=16000"]
    path = media.make(tmp_path / "long.wav", inputs=noise)
    clip = decode(path, rates=[16000])
    features = LogMel().open("cpu").extract(clip)
    sound = clip.sound(16000)
    assert isinstance(sound, Sound)
    power = librosa.feature.melspectrogram(
        y=sound.samples, sr=16000, n_fft=512, win_length=400, hop_length=160, n_mels=64, fmin=50.0,
        pad_mode="constant",
    )  # fmt: skip
    level = librosa.power_to_db(power, top_db=None) / 40
    means = np.stack([level[:, a : a + 96].mean(axis=1) for a in range(0, 72 * 96, 96)])
    assert len(features.values) == 73
    found = features.values[:, :64]
    assert found.mean(axis=1).max() == pytest.approx(0, abs=1e-6)
    offset = found[:72].mean() - means.mean()
    np.testing.assert_allclose(found[:72], means + offset, atol=1e-5)
