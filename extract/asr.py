"""Words that can be heard (openai-whisper)."""

import math
import warnings
from functools import cache
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from m2hf.extract import whisper_weights
from m2hf.extract.base import NO_AUDIO, MediaExtractor, MediaSession
from m2hf.extract.compat import import_torchvision
from m2hf.extract.media import DecodedClip
from m2hf.extract.weights import Weight, WeightFile
from m2hf.features import Features

NO_SPEECH = "no speech"
_RATE = 16000  # what Whisper was trained on


class Asr(MediaExtractor):
    """N segments of speech; values (N, 3): Whisper's no_speech_prob, avg_logprob and
    compression_ratio of the window that a segment is from; confidence is exp(avg_logprob).

    model: a Whisper name; checkpoint: a .pt or CTranslate2 file in place of what is installed;
    language: "" to detect it; temperatures: tried in order until a window decodes well, with
    sampling from `seed`. Whisper itself drops windows that it takes for silence.
    """

    name: ClassVar[str] = "asr"
    columns: ClassVar[tuple[str, ...]] = ("no_speech_prob", "avg_logprob", "compression_ratio")
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "openai-whisper", "torch")
    texts: ClassVar[bool] = True
    network: ClassVar[bool] = True

    model: str = "base"
    checkpoint: str = Field(default="", exclude=True)  # its digest counts, not its place
    language: str = ""
    temperatures: tuple[float, ...] = Field(default=(0.0, 0.2, 0.4), min_length=1)
    seed: int = 0

    @property
    def width(self) -> int:
        return len(self.columns)

    def needs(self) -> tuple[Weight, ...]:
        return (whisper_weights.weight(self.model, self.checkpoint),)

    def sample_rates(self) -> tuple[int, ...]:
        return (_RATE,)

    def open(self, device: str) -> "AsrSession":
        return AsrSession(self, device)


class AsrSession(MediaSession):
    def __init__(self, declared: Asr, device: str) -> None:
        self._declared = declared
        self._device = device
        self._model = _model(declared.needs()[0].locate(), device)

    def extract(self, clip: DecodedClip) -> Features:
        import torch

        declared = self._declared
        sound = clip.sound(_RATE)
        if sound is None:
            return Features.empty(NO_AUDIO, declared.width, texts=True)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            torch.manual_seed(declared.seed)  # the same words whatever clip came before
            warnings.simplefilter("ignore", ResourceWarning)  # whisper's vocabulary file
            heard = self._model.transcribe(
                sound.samples,
                temperature=declared.temperatures,
                language=declared.language or None,
                condition_on_previous_text=False,
                fp16=self._device.startswith("cuda"),
            )
        segments = [s for s in heard["segments"] if s["text"].strip()]
        if not segments:
            return Features.empty(NO_SPEECH, declared.width, texts=True)
        # Whisper pads to 30 s, and may end a segment in the padding.
        start = np.minimum([s["start"] for s in segments], sound.duration_s)
        end = np.minimum([s["end"] for s in segments], sound.duration_s)
        return Features(
            np.array([[s[column] for column in declared.columns] for s in segments], np.float32),
            start,
            np.maximum(start, end),
            texts=tuple(s["text"].strip() for s in segments),
            confidence=np.array([min(1.0, math.exp(s["avg_logprob"])) for s in segments]),
        )


@cache
def _model(file: WeightFile, device: str) -> Any:
    import_torchvision()
    return whisper_weights.load(file, device)
