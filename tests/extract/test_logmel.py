"""log-mel: what a window sounds like, and not how loud the recording is."""

import numpy as np
from numpy.typing import NDArray

from m2hf.extract.logmel import LogMel
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.sound import Sound

RATE = 16000


def rows(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    clip = DecodedClip(
        len(samples) / RATE, "0" * 64, Absent("no video"), {RATE: Sound(samples, RATE)}
    )
    values: NDArray[np.float32] = LogMel().open("cpu").extract(clip).values
    return values


def noise_then_tone() -> NDArray[np.float32]:
    """4 s: two of loud noise, two of a tone 26 dB below it."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.2, 2 * RATE)
    tone = 0.01 * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE) + rng.normal(
        0, 1e-3, 2 * RATE
    )
    return np.concatenate([noise, tone]).astype(np.float32)


def test_a_quieter_recording_has_the_same_features() -> None:
    sound = noise_then_tone()
    np.testing.assert_allclose(rows(sound / 10), rows(sound), atol=0.02)  # of 40 dB


def test_windows_of_a_clip_keep_their_relation() -> None:
    values = rows(noise_then_tone())
    loudness = values[:, :64].mean(axis=1)
    assert abs(loudness.max()) < 1e-6
    assert loudness[0] - loudness[-1] > 0.5  # 20 dB
    assert values[-1, :64].argmax() != values[0, :64].argmax()


def test_silence_is_flat() -> None:
    assert not rows(np.zeros(RATE, dtype=np.float32)).any()
