"""The spectrogram that AST reads: log-mel filter bank energies, as Kaldi computes them.

The same values as transformers' ASTFeatureExtractor (a test compares them). That class uses
torchaudio if it is installed and another implementation if not, but features must not depend on
what else is installed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 16000  # Hz
HOP = 160  # samples from one row to the next
_FRAME = 400
_FFT = 512
_PRE_EMPHASIS = 0.97
_LOWEST_HZ = 20.0
_FLOOR = 2.0**-23  # float32's epsilon, as in Kaldi


@dataclass(frozen=True)
class Fbank:
    """A filter bank. mean, std: of the spectrograms that the network was trained on."""

    rows: int
    mels: int
    mean: float
    std: float

    def spectrogram(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, mels) of up to rows * HOP samples.

        Rows after the end of the sound are 0 before (x - mean) / (2 std), as in training.
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
        """(_FFT / 2 + 1, mels): triangles, evenly spaced and symmetric in mel."""
        bins = _mel(np.arange(_FFT // 2 + 1) * RATE / _FFT)
        edges = np.linspace(_mel(_LOWEST_HZ), _mel(RATE / 2), self.mels + 2)
        rising = (bins[:, None] - edges[:-2]) / np.diff(edges)[:-1]
        falling = (edges[2:] - bins[:, None]) / np.diff(edges)[1:]
        filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
        return filters


def _mel(hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(hz) / 700.0))
