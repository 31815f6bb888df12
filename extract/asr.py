"""Speech recognition (Whisper) where a voice-activity detector finds speech."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from m2hf.array_types import BoolArray
from m2hf.config import Section
from m2hf.extract.base import MediaExtractor, MediaSession
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.speech import checkpoints, vad
from m2hf.extract.speech.engines import Decoding, Segment, companion_files, open_engine
from m2hf.extract.speech.vad import RATE, Detector, Samples, Span, Window
from m2hf.extract.weights.weight import Weight
from m2hf.features import Features
from m2hf.streams import ASR, HALLUCINATED

NO_SPEECH = "no speech"


class HallucinationThresholds(Section):
    """When a segment counts as hallucinated: beyond any one of these thresholds.

    The first three have the defaults of openai-whisper's `transcribe`, where they only trigger a
    retry at the next temperature: segments that still fail are kept, and many are hallucinated.
    """

    no_speech_prob: float = Field(default=0.6, ge=0.0, le=1.0)
    """Highest probability of no speech; openai-whisper's no_speech_threshold."""

    avg_logprob: float = Field(default=-1.0, le=0.0)
    """Lowest mean log probability of the tokens; openai-whisper's logprob_threshold."""

    compression_ratio: float = Field(default=2.4, ge=0.0)
    """Highest ratio by which zlib compresses the text, which is high for repetitions;
    openai-whisper's compression_ratio_threshold."""

    least_speech: float = Field(default=0.1, ge=0.0, le=1.0)
    """Lowest share of the segment that the voice-activity detector calls speech; our choice."""

    def exceeded_by(self, segment: Segment, share: float) -> bool:
        """Whether a segment, of which `share` (0..1) is speech, counts as hallucinated."""
        return (
            segment.no_speech_prob > self.no_speech_prob
            or segment.avg_logprob < self.avg_logprob
            or segment.compression_ratio > self.compression_ratio
            or share < self.least_speech
        )


class Asr(MediaExtractor):
    """N segments of speech, with their text; values (N, 5), a column each:

    Whisper's no_speech_prob, avg_logprob and compression_ratio of the window that a segment is
    from, the share of the segment that the voice-activity detector calls speech, and 1 where the
    segment counts as hallucinated (see `doubts`), else 0. confidence is exp(avg_logprob).

    Hallucinated segments are kept and flagged; `text` skips them by default. Windows that Whisper
    itself takes for silence give no segment.
    """

    name: ClassVar[str] = ASR
    revision: ClassVar[int] = 3
    columns: ClassVar[tuple[str, ...]] = (
        "no_speech_prob",
        "avg_logprob",
        "compression_ratio",
        "speech",
        HALLUCINATED,
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
    """Name of a Whisper model, such as base, tiny.en, large-v3, turbo or distil-large-v3."""

    checkpoint: str = Field(default="", exclude=True)  # its digest counts, not its path
    """Path of a .pt or CTranslate2 file to use in place of the installed weights of `model`."""

    engine: Literal["openai-whisper", "faster-whisper"] = "openai-whisper"
    """Library that runs Whisper: openai-whisper (torch) or faster-whisper (CTranslate2)."""

    compute_type: Literal["float32", "int8", "float16"] = "float32"
    """Precision of faster-whisper; openai-whisper has float32 on a CPU, float16 on a GPU."""

    vad: bool = True
    """Whether to transcribe only where the voice-activity detector finds speech."""

    detector: Detector = Detector()
    """The voice-activity detector."""

    doubts: HallucinationThresholds = HallucinationThresholds()
    """When a segment counts as hallucinated."""

    language: str = ""
    """Code of the language, such as en; "" detects it in the first window of each clip."""

    temperatures: tuple[float, ...] = Field(default=(0.0, 0.2, 0.4), min_length=1)
    """Sampling temperatures, tried in order until a window decodes well; 0 is greedy decoding."""

    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Seed of the sampling at temperatures above 0, set anew for each clip."""

    def needs(self) -> tuple[Weight, ...]:
        return (*self._whisper, vad.weight())

    @property
    def _whisper(self) -> tuple[Weight, ...]:
        converted = self.engine == "faster-whisper"
        return checkpoints.weights(self.model, self.checkpoint, converted)

    def weights(self) -> Mapping[str, str]:
        found = dict(super().weights())
        if self.engine == "faster-whisper" and len(self._whisper) == 1:
            whisper = self._whisper[0].locate()
            for name, data in companion_files(whisper).items():
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
        files = tuple(weight.locate() for weight in declared._whisper)
        self._engine = open_engine(declared.engine, files, device, declared.compute_type)

    def extract(self, clip: DecodedClip) -> Features:
        declared = self._declared
        sound = clip.sound(RATE)
        if isinstance(sound, Absent):
            return Features.empty(sound.reason, declared.width, texts=True)
        utterances = declared.detector.utterances(sound.samples)
        windows = [Window((Span(0, len(sound.samples)),))]
        if declared.vad:
            heard = declared.detector.padded(utterances, len(sound.samples))
            windows = list(vad.windows(heard))
        segments = list(self._segments(sound.samples, windows))
        if not segments:
            return Features.empty(NO_SPEECH, declared.width, texts=True)
        segments.sort(key=lambda s: s.start_s)
        shares = [vad.speech_share(utterances, s.start_s, s.end_s) for s in segments]
        return Features(
            np.array([self._values(*s) for s in zip(segments, shares, strict=True)], np.float32),
            np.array([s.start_s for s in segments]),
            np.array([s.end_s for s in segments]),
            texts=tuple(s.text for s in segments),
            confidence=np.array([min(1.0, math.exp(s.avg_logprob)) for s in segments]),
        )

    def _values(self, segment: Segment, share: float) -> list[float]:
        hallucinated = self._declared.doubts.exceeded_by(segment, share)
        return [*segment[3:], share, float(hallucinated)]

    def _segments(self, samples: Samples, windows: list[Window]) -> Iterator[Segment]:
        """Segments of a clip; times in seconds of the clip."""
        import torch

        language = self._declared.language
        with torch.random.fork_rng(devices=[]):
            self._engine.begin(self._decoding)
            for window in windows:
                if not language:  # the clip's is detected in its first window
                    language = self._engine.language(window.joined(samples))
                yield from self._placed(samples, window, language)

    def _placed(self, samples: Samples, window: Window, language: str) -> list[Segment]:
        """Segments of a window; times in seconds of the clip.

        A segment that spans a pause that was cut out has no known times in the clip, so the two
        sides of the pause are transcribed again, each on its own.
        """
        placed = []
        for segment in self._engine.transcribe(window.joined(samples), language, self._decoding):
            times = window.clip_times(segment.start_s, segment.end_s, self._declared.detector.pad_s)
            if times is None:
                sides = window.split(segment.start_s)
                return [s for side in sides for s in self._placed(samples, side, language)]
            placed.append(segment._replace(start_s=times[0], end_s=times[1]))
        return placed


def is_hallucinated(features: Features) -> BoolArray:
    """(N,) True where a segment of `asr` counts as hallucinated."""
    hallucinated_N: BoolArray = features.values[:, Asr.columns.index(HALLUCINATED)] > 0
    return hallucinated_N
