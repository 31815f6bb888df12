"""A checkpoint in the format of PANNs' `Cnn14_mAP=0.431.pth`, with random weights.

Drawn from numpy's RandomState, which gives the same numbers in every version. tests/data/cnn14.json
was computed from the same tensors by panns-inference 0.1.1 (torchlibrosa 0.1.0) in an environment
of its own, where it downloaded and unpickled nothing.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
RATE = 32000
BANDS, WIDTH, CLASSES, FRAME = 64, 2048, 527, 1024
CHANNELS = (1, 64, 128, 256, 512, 1024, WIDTH)


def checkpoint() -> dict[str, Array]:
    """Name -> tensor, as in the published file."""
    return dict(_tensors(np.random.RandomState(20)))


def sounds() -> dict[str, Array]:
    """A rising tone in noise, 12 s; and 1.5 s that begin with silence, then a hum."""
    random = np.random.RandomState(21)
    t = np.arange(12 * RATE) / RATE
    rising = 0.3 * np.sin(2 * np.pi * (200 + 250 * t) * t) * (0.2 + np.abs(np.sin(2 * t)))
    noise = 0.02 * random.uniform(-1, 1, len(t))
    hum = 0.1 * np.sign(np.sin(2 * np.pi * 110 * t[: RATE * 3 // 2])) * (t[: RATE * 3 // 2] > 0.4)
    return {"rising": (rising + noise).astype(np.float32), "hum": hum.astype(np.float32)}


def _tensors(random: np.random.RandomState) -> Iterator[tuple[str, Array]]:
    yield from constants()
    yield from _norm("bn0", BANDS, random, mean=-40.0, deviation=15.0)
    for n in range(1, len(CHANNELS)):
        before, after = CHANNELS[n - 1 : n + 1]
        for layer, channels in (("1", before), ("2", after)):
            name = f"conv_block{n}"
            yield f"{name}.conv{layer}.weight", _drawn((after, channels, 3, 3), random)
            yield from _norm(f"{name}.bn{layer}", after, random, mean=0.0, deviation=1.0)
    for name, outputs in (("fc1", WIDTH), ("fc_audioset", CLASSES)):
        yield f"{name}.weight", _drawn((outputs, WIDTH), random)
        yield f"{name}.bias", random.uniform(-0.1, 0.1, outputs).astype(np.float32)


def constants() -> Iterator[tuple[str, Array]]:
    """Of the spectrogram transform: a Hann-windowed Fourier matrix, and Slaney's mel bands."""
    import librosa

    angle = 2 * np.pi * np.outer(np.arange(FRAME // 2 + 1), np.arange(FRAME)) / FRAME
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    for part, wave in (("real", np.cos(angle)), ("imag", -np.sin(angle))):
        name = f"spectrogram_extractor.stft.conv_{part}.weight"
        yield name, (wave * hann)[:, None].astype(np.float32)
    bands = librosa.filters.mel(sr=RATE, n_fft=FRAME, n_mels=BANDS, fmin=50, fmax=14000)
    yield "logmel_extractor.melW", np.ascontiguousarray(bands.T)


def _norm(
    name: str, size: int, random: np.random.RandomState, mean: float, deviation: float
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    yield f"{name}.weight", random.uniform(0.8, 1.2, size).astype(np.float32)
    yield f"{name}.bias", random.uniform(-0.2, 0.2, size).astype(np.float32)
    shifts = random.uniform(-0.2, 0.2, size)
    yield f"{name}.running_mean", (mean + deviation * shifts).astype(np.float32)
    variances = deviation**2 * random.uniform(0.8, 1.2, size)
    yield f"{name}.running_var", variances.astype(np.float32)
    yield f"{name}.num_batches_tracked", np.array(600000)


def _drawn(shape: tuple[int, ...], random: np.random.RandomState) -> Array:
    """Uniform, with the variance that ReLU layers preserve (He et al. 2015)."""
    inputs = int(np.prod(shape[1:]))
    return random.uniform(-1, 1, shape).astype(np.float32) * np.float32((6 / inputs) ** 0.5)
