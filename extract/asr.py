"""Words that can be heard (Whisper), where a voice-activity detector hears speech."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from m2hf.array_types import BoolArray
from m2hf.config import Section
from m2hf.extract.base import NO_AUDIO, MediaExtractor, MediaSession
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.speech import checkpoints, vad
from m2hf.extract.speech.engines import Decoding, Segment, beside, open_engine
from m2hf.extract.speech.vad import RATE, Detector, Samples, Span, Window
from m2hf.extract.weights.weight import Weight
from m2hf.features import Features

NO_SPEECH = "no speech"


class Doubts(Section):
    """When a segment is taken for invented: one of these is enough.

    The first three are the values at which openai's transcribe takes a window for badly decoded
    or silent. There they only lead to another temperature; what still is so after the last one is
    kept, and often never was said. least_speech: the part of a segment that the detector must
    call speech (our reading).
    """

    no_speech_prob: float = Field(default=0.6, ge=0.0, le=1.0)
    avg_logprob: float = Field(default=-1.0, le=0.0)
    compression_ratio: float = Field(default=2.4, ge=0.0)
    least_speech: float = Field(default=0.1, ge=0.0, le=1.0)

    def about(self, segment: Segment, share: float) -> bool:
        """`share` of the segment is speech, in 0..1."""
        return (
            segment.no_speech_prob > self.no_speech_prob
            or segment.avg_logprob < self.avg_logprob
            or segment.compression_ratio > self.compression_ratio
            or share < self.least_speech
        )


class Asr(MediaExtractor):
    """N segments of speech; values (N, 5): Whisper's no_speech_prob, avg_logprob and
    compression_ratio of the window that a segment is from, the share of the segment that the
    detector calls speech, and 1 where the segment is taken for invented (see `doubts`), else 0;
    confidence is exp(avg_logprob). `text` doesn't read what is invented.

    model: a Whisper name; checkpoint: a .pt or CTranslate2 file in place of what is installed;
    engine: what runs it; compute_type: faster-whisper's precision (openai-whisper computes in
    float32 on a CPU, float16 on a GPU); vad: transcribe only where the detector hears speech, else
    the whole sound; language: "" to detect it; temperatures: tried in order until a window decodes
    well, with sampling from `seed`. Whisper itself drops windows that it takes for silence.
    """

    name: ClassVar[str] = "asr"
    revision: ClassVar[int] = 2
    columns: ClassVar[tuple[str, ...]] = (
        "no_speech_prob",
        "avg_logprob",
        "compression_ratio",
        "speech",
        "invented",
    )
    libraries: ClassVar[tuple[str, ...]] = (
        "ctranslate2",
        "faster-whisper",
        "numpy",
        "onnxruntime",
        "openai-whisper",
        "torch",
    )
    texts: ClassVar[bool] = True
    network: ClassVar[bool] = True

    model: str = "base"
    checkpoint: str = Field(default="", exclude=True)  # its digest counts, not its place
    engine: Literal["openai-whisper", "faster-whisper"] = "openai-whisper"
    compute_type: Literal["float32", "int8", "float16"] = "float32"
    vad: bool = True
    detector: Detector = Detector()
    doubts: Doubts = Doubts()
    language: str = ""
    temperatures: tuple[float, ...] = Field(default=(0.0, 0.2, 0.4), min_length=1)
    seed: int = 0

    @property
    def width(self) -> int:
        return len(self.columns)

    def needs(self) -> tuple[Weight, ...]:
        return (checkpoints.weight(self.model, self.checkpoint), vad.weight())

    def weights(self) -> Mapping[str, str]:
        found = dict(super().weights())
        if self.engine == "faster-whisper":
            whisper = self.needs()[0].locate()
            for name, data in beside(whisper).items():
                found[f"{whisper.name}/{name}"] = hashlib.sha256(data).hexdigest()
        return found

    def sample_rates(self) -> tuple[int, ...]:
        return (RATE,)

    def open(self, device: str) -> "AsrSession":
        return AsrSession(self, device)


class AsrSession(MediaSession):
    def __init__(self, declared: Asr, device: str) -> None:
        self._declared = declared
        self._decoding = Decoding(declared.temperatures, declared.seed)
        file = declared.needs()[0].locate()
        self._engine = open_engine(declared.engine, file, device, declared.compute_type)

    def extract(self, clip: DecodedClip) -> Features:
        declared = self._declared
        sound = clip.sound(RATE)
        if sound is None:
            return Features.empty(NO_AUDIO, declared.width, texts=True)
        utterances = declared.detector.utterances(sound.samples)
        windows = [Window((Span(0, len(sound.samples)),))]
        if declared.vad:
            heard = declared.detector.heard(utterances, len(sound.samples))
            windows = list(vad.windows(heard))
        segments = list(self._segments(sound.samples, windows))
        if not segments:
            return Features.empty(NO_SPEECH, declared.width, texts=True)
        segments.sort(key=lambda s: s.start_s)
        shares = [vad.share(utterances, s.start_s, s.end_s) for s in segments]
        return Features(
            np.array([self._values(*s) for s in zip(segments, shares, strict=True)], np.float32),
            np.array([s.start_s for s in segments]),
            np.array([s.end_s for s in segments]),
            texts=tuple(s.text for s in segments),
            confidence=np.array([min(1.0, math.exp(s.avg_logprob)) for s in segments]),
        )

    def _values(self, segment: Segment, share: float) -> list[float]:
        invented = self._declared.doubts.about(segment, share)
        return [*segment[3:], share, float(invented)]

    def _segments(self, samples: Samples, windows: list[Window]) -> Iterator[Segment]:
        """Segments of a clip, with their times in it."""
        import torch

        language = self._declared.language
        with torch.random.fork_rng(devices=[]):
            self._engine.begin(self._decoding)
            for window in windows:
                if not language:  # that of the first window is the clip's
                    language = self._engine.language(window.joined(samples))
                yield from self._placed(samples, window, language)

    def _placed(self, samples: Samples, window: Window, language: str) -> list[Segment]:
        """A segment across a pause that was left out says nothing of when its words were said:
        then the two sides are heard each on its own."""
        placed = []
        for segment in self._engine.transcribe(window.joined(samples), language, self._decoding):
            times = window.place(segment.start_s, segment.end_s, self._declared.detector.pad_s)
            if times is None:
                sides = window.split(segment.start_s)
                return [s for side in sides for s in self._placed(samples, side, language)]
            placed.append(segment._replace(start_s=times[0], end_s=times[1]))
        return placed


def is_invented(features: Features) -> BoolArray:
    """(N,) True where a segment of `asr` is taken for invented."""
    invented_N: BoolArray = features.values[:, Asr.columns.index("invented")] > 0
    return invented_N
