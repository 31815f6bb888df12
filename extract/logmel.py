"""Sound as statistics of its log-mel spectrogram, a row for each window (librosa)."""

from itertools import pairwise
from typing import ClassVar

import numpy as np
from pydantic import Field

from m2hf.extract.base import NO_AUDIO, MediaExtractor, MediaSession
from m2hf.extract.media import DecodedClip
from m2hf.features import Features

_HOP_S = 0.010
_FRAME_S = 0.025
_SCALE_DB = 40.0  # -80 .. 0 dB becomes -1 .. 1


class LogMel(MediaExtractor):
    """Needs no weights. Values (K, 2 * mels): mean, then deviation, of each mel band's level in
    a window, in units of 40 dB around -40 dB."""

    name: ClassVar[str] = "logmel"
    libraries: ClassVar[tuple[str, ...]] = ("librosa", "numpy")

    rate: int = Field(default=16000, ge=8000)
    mels: int = Field(default=64, ge=8)
    window_s: float = Field(default=0.96, gt=0.1)

    @property
    def width(self) -> int:
        return 2 * self.mels

    def sample_rates(self) -> tuple[int, ...]:
        return (self.rate,)

    def open(self, device: str) -> "LogMelSession":
        return LogMelSession(self)


class LogMelSession(MediaSession):
    def __init__(self, declared: LogMel) -> None:
        import librosa

        self._declared = declared
        self._librosa = librosa

    def extract(self, clip: DecodedClip) -> Features:
        declared = self._declared
        sound = clip.sound(declared.rate)
        if sound is None:
            return Features.empty(NO_AUDIO, declared.width)
        hop = round(_HOP_S * declared.rate)
        power = self._librosa.feature.melspectrogram(
            y=sound.samples,
            sr=declared.rate,
            n_fft=512 * declared.rate // 16000,
            win_length=round(_FRAME_S * declared.rate),
            hop_length=hop,
            n_mels=declared.mels,
            fmin=50.0,
            pad_mode="constant",
        )
        level = self._librosa.power_to_db(power, ref=1.0, top_db=None) / _SCALE_DB + 1.0
        step = round(declared.window_s / _HOP_S)
        # The last window takes a rest of less than half a window with it.
        count = max(1, round(level.shape[1] / step))
        edges = [*range(0, count * step, step), level.shape[1]]
        windows = [level[:, a:b] for a, b in pairwise(edges)]
        values = np.stack([np.concatenate([w.mean(axis=1), w.std(axis=1)]) for w in windows])
        times = np.minimum(np.array(edges) * _HOP_S, sound.duration_s)
        times[-1] = sound.duration_s
        return Features(values.astype(np.float32), times[:-1], times[1:])
