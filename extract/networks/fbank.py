"""The picture of a sound that AST reads: log-mel filter bank energies, as Kaldi computes them.

The same numbers as transformers' ASTFeatureExtractor (a test compares them), which uses
torchaudio where that is installed and loops over frames where it isn't: features must not depend
on what else is installed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 16000  # samples a second
HOP = 160  # samples from one row to the next
_FRAME = 400
_FFT = 512
_PRE_EMPHASIS = 0.97
_LOWEST_HZ = 20.0
_FLOOR = 2.0**-23  # float32's epsilon, as in Kaldi


@dataclass(frozen=True)
class Fbank:
    """rows x mels is the picture's size; mean, std: of the data that the network was trained on."""

    rows: int
    mels: int
    mean: float
    std: float

    def picture(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, mels) of up to rows * HOP samples.

        Rows that the sound doesn't reach are energy 0 before (x - mean) / (2 std), as in training.
        """
        short = max(0, _FRAME - len(samples))
        padded = np.pad(samples.astype(np.float64), (0, short))
        frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::HOP][: self.rows]
        frames = frames - frames.mean(axis=1, keepdims=True)
        before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        shaped = (frames - _PRE_EMPHASIS * before) * np.hanning(_FRAME)
        power = np.abs(np.fft.rfft(shaped, _FFT)) ** 2
        energies = np.zeros((self.rows, self.mels))
        energies[: len(frames)] = np.log(np.maximum(power @ self._filters(), _FLOOR))
        return ((energies - self.mean) / (2 * self.std)).astype(np.float32)

    def _filters(self) -> NDArray[np.float64]:
        """(_FFT / 2 + 1, mels): triangles that are even in mel, not in Hz."""
        bins = _mel(np.arange(_FFT // 2 + 1) * RATE / _FFT)
        edges = np.linspace(_mel(_LOWEST_HZ), _mel(RATE / 2), self.mels + 2)
        rising = (bins[:, None] - edges[:-2]) / np.diff(edges)[:-1]
        falling = (edges[2:] - bins[:, None]) / np.diff(edges)[1:]
        filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
        return filters


def _mel(hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(hz) / 700.0))
