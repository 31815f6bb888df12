"""Sound as statistics of its log-mel spectrogram (librosa), one row per window."""

from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from m2hf.extract.base import MediaExtractor, MediaSession
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.features import Features

_HOP_S = 0.010
_FRAME_S = 0.025
_UNIT_DB = 40.0
_BLOCK = 64  # windows per spectrogram, so that memory doesn't grow with the clip


class LogMel(MediaExtractor):
    """Values (K, 2 * mels): per window, the mean of each mel band's level, then the standard
    deviations, in units of 40 dB. Levels are relative to the clip's loudest window, the mean over
    its bands: how far away a microphone was, or how a recording was mastered, says nothing of what
    sounds. No weights are needed."""

    name: ClassVar[str] = "logmel"
    revision: ClassVar[int] = 2
    libraries: ClassVar[tuple[str, ...]] = ("librosa", "numpy")

    rate: int = Field(default=16000, ge=8000, le=384_000)
    """Sample rate to which the sound is resampled, in Hz."""

    mels: int = Field(default=64, ge=8, le=1024)
    """Mel bands, from 50 Hz to half of `rate`."""

    window_s: float = Field(default=0.96, gt=0.1, le=86_400.0)
    """Length of a window, in seconds; spectrogram frames are 10 ms apart."""

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
        self._hop = round(_HOP_S * declared.rate)

    def extract(self, clip: DecodedClip) -> Features:
        declared = self._declared
        sound = clip.sound(declared.rate)
        if isinstance(sound, Absent):
            return Features.empty(sound.reason, declared.width)
        step = round(declared.window_s / _HOP_S)
        total = 1 + len(sound.samples) // self._hop
        # A remainder of less than half a window is part of the last window.
        count = max(1, round(total / step))
        edges = [*range(0, count * step, step), total]
        values = []
        for block in range(0, count, _BLOCK):
            inside = edges[block : block + _BLOCK + 1]
            with CLOCK.running():
                level = self._level(sound.samples, inside[0], inside[-1])
            for a, b in pairwise(inside):
                window = level[:, a - inside[0] : b - inside[0]]
                values.append(np.concatenate([window.mean(axis=1), window.std(axis=1)]))
        times = np.minimum(np.array(edges) * _HOP_S, sound.duration_s)
        times[-1] = sound.duration_s
        rows = np.stack(values).astype(np.float32)
        means = rows[:, : declared.mels]
        means -= means.mean(axis=1).max()
        return Features(rows, times[:-1], times[1:])

    def _level(self, samples: NDArray[np.float32], first: int, end: int) -> NDArray[np.float32]:
        """(mels, end - first), in units of 40 dB above a power of 1: spectrogram frames `first` up
        to `end`, each centred at sample frame * hop; the sound is padded with silence at both
        ends."""
        declared = self._declared
        size = 512 * declared.rate // 16000
        start, stop = first * self._hop - size // 2, (end - 1) * self._hop + size - size // 2
        part = samples[max(start, 0) : stop]
        before = max(-start, 0)
        power = self._librosa.feature.melspectrogram(
            y=np.pad(part, (before, stop - start - before - len(part))),
            sr=declared.rate,
            n_fft=size,
            win_length=round(_FRAME_S * declared.rate),
            hop_length=self._hop,
            center=False,
            n_mels=declared.mels,
            fmin=50.0,
        )
        level: NDArray[np.float32] = self._librosa.power_to_db(power, ref=1.0, top_db=None)
        return level / _UNIT_DB
