"""Two engines that run Whisper: openai-whisper (torch), and faster-whisper (CTranslate2, C++).

Both read the same weights, decode greedily, and apply openai's rules for retrying at the same
temperatures. They round differently, so unclear speech may be transcribed differently.
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.inference.clock import CLOCK, Clocked
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.speech import checkpoints
from m2hf.extract.speech.vad import Samples
from m2hf.extract.weights.weight import WeightFile
from m2hf.plain_data import json_object, read_text

_TOKENIZER = "tokenizer.json"
_PREPROCESSOR = "preprocessor_config.json"
_COMPANIONS = ("config.json", _TOKENIZER, "vocabulary.txt", "vocabulary.json")
_USUAL_MELS = 80  # of faster-whisper, where the folder says nothing


class Segment(NamedTuple):
    """A transcribed segment of a sound; times in seconds from its start."""

    start_s: float
    end_s: float
    text: str
    no_speech_prob: float
    avg_logprob: float
    compression_ratio: float


@dataclass(frozen=True)
class Decoding:
    """How to decode."""

    temperatures: tuple[float, ...]
    """Tried in order until a window passes openai's checks; above 0, tokens are sampled."""
    seed: int
    """Of the sampling."""


class Engine(ABC):
    """A loaded Whisper."""

    @abstractmethod
    def begin(self, decoding: Decoding) -> None:
        """Seed the sampling for a new clip, so that it doesn't depend on earlier clips."""

    @abstractmethod
    def language(self, samples: Samples) -> str:
        """The code of the language of the first 30 s."""

    @abstractmethod
    def transcribe(self, samples: Samples, language: str, decoding: Decoding) -> list[Segment]:
        """Segments of a sound of any length; samples: (N,) at 16 kHz."""


class OpenaiWhisper(Engine):
    def __init__(self, file: WeightFile, device: str) -> None:
        import_torchvision()
        self._model = checkpoints.load(file, device)
        self._half = device.startswith("cuda")
        CLOCK.watch(self._model.encoder, device)
        CLOCK.watch(self._model.decoder, device)
        _cache_last_output(self._model.encoder)

    def begin(self, decoding: Decoding) -> None:
        import torch

        torch.manual_seed(decoding.seed)

    def language(self, samples: Samples) -> str:
        """Computed from the log-mel that is decoded afterwards, so that the encoder runs once:
        openai's transcribe pads a second one differently."""
        import torch
        from whisper.audio import HOP_LENGTH, N_FRAMES, N_SAMPLES, log_mel_spectrogram, pad_or_trim

        if not self._model.is_multilingual:
            return "en"
        mel = log_mel_spectrogram(samples, self._model.dims.n_mels, padding=N_SAMPLES)
        mel = pad_or_trim(mel[:, : min(N_FRAMES, len(samples) // HOP_LENGTH)], N_FRAMES)
        mel = mel.to(self._model.device, torch.float16 if self._half else torch.float32)
        _, probabilities = self._model.detect_language(mel)
        language: str = max(probabilities, key=probabilities.__getitem__)
        return language

    def transcribe(self, samples: Samples, language: str, decoding: Decoding) -> list[Segment]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # whisper's vocabulary file
            result = self._model.transcribe(
                samples,
                temperature=decoding.temperatures,
                language=language,
                condition_on_previous_text=False,
                fp16=self._half,
            )
        return [
            Segment(s["start"], s["end"], s["text"].strip(), *(s[c] for c in Segment._fields[3:]))
            for s in result["segments"]
            if s["text"].strip()
        ]


def _cache_last_output(encoder: Any) -> None:
    """Cache an encoder's last output: language detection and each temperature encode the same
    window again."""
    import torch

    forward = encoder.forward
    last: list[Any] = []

    def cached(mel: Any) -> Any:
        if not (last and last[0].shape == mel.shape and torch.equal(last[0], mel)):
            last[:] = [mel, forward(mel)]
        return last[1]

    encoder.forward = cached


class FasterWhisper(Engine):
    """compute_type: CTranslate2's precision, to which the weights are converted on loading."""

    def __init__(self, files: tuple[WeightFile, ...], device: str, compute_type: str) -> None:
        import ctranslate2
        import torch
        from faster_whisper import WhisperModel

        self._kind, _, index = device.partition(":")
        self._index = int(index or 0)
        self._compute_type = compute_type
        supported = ctranslate2.get_supported_compute_types(self._kind, self._index)
        if compute_type not in supported:
            raise ConfigError(
                f"extract.asr.compute_type = {compute_type!r}: not supported on {device}; "
                f"expected one of {', '.join(sorted({'float32', 'int8', 'float16'} & supported))}"
            )
        file, *others = files
        beside = {other.paths[0].name: other.read() for other in others}
        self._files = {"model.bin": file.read(), **(beside or companion_files(file))}
        self._threads = torch.get_num_threads()  # set by the job
        self._model = WhisperModel(
            file.name,
            device=self._kind,
            device_index=self._index,
            compute_type=compute_type,
            cpu_threads=self._threads,
            files=dict(self._files),
        )
        self._install(self._model.model)

    def begin(self, decoding: Decoding) -> None:
        """CTranslate2 seeds each thread's RNG once, at its first use; so a model that sampled is
        replaced by a new one."""
        import ctranslate2

        ctranslate2.set_random_seed(decoding.seed)
        if self._last.sampled:
            self._install(
                ctranslate2.models.Whisper(
                    "",
                    device=self._kind,
                    device_index=self._index,
                    compute_type=self._compute_type,
                    intra_threads=self._threads,
                    files={
                        name: data
                        for name, data in self._files.items()
                        if name not in (_TOKENIZER, _PREPROCESSOR)
                    },
                )
            )

    def _install(self, model: Any) -> None:
        self._last = _CachingModel(model)
        self._model.model = self._last

    def language(self, samples: Samples) -> str:
        from faster_whisper.audio import pad_or_trim

        extractor = self._model.feature_extractor
        frames = min(extractor.nb_max_frames, len(samples) // extractor.hop_length)
        mel = pad_or_trim(extractor(samples)[:, :frames])  # as in transcribe
        language: str = "en"
        if self._model.model.is_multilingual:
            language = self._model.detect_language(features=mel)[0]
        return language

    def transcribe(self, samples: Samples, language: str, decoding: Decoding) -> list[Segment]:
        segments, _ = self._model.transcribe(
            samples,
            language=language,
            temperature=list(decoding.temperatures),
            beam_size=1,
            best_of=1,
            condition_on_previous_text=False,
            vad_filter=False,
        )
        return [
            Segment(s.start, s.end, s.text.strip(), *(getattr(s, c) for c in Segment._fields[3:]))
            for s in segments
            if s.text.strip()
        ]


class _CachingModel:
    """A CTranslate2 model timed by CLOCK that caches the last encoded window, and records whether
    it has sampled."""

    def __init__(self, model: Any) -> None:
        self._model = Clocked(model, "encode", "generate", "detect_language")
        self._mel: NDArray[Any] | None = None
        self._encoded: Any = None
        self.sampled = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, features: Any, to_cpu: bool) -> Any:
        mel = np.array(features)
        if self._mel is None or not np.array_equal(self._mel, mel):
            self._encoded = self._model.encode(features, to_cpu=to_cpu)
            self._mel = mel
        return self._encoded

    def generate(self, *arguments: Any, **options: Any) -> Any:
        self.sampled |= options.get("sampling_temperature", 0) > 0
        return self._model.generate(*arguments, **options)


def companion_files(file: WeightFile) -> dict[str, bytes]:
    """Name -> content of the files that CTranslate2 and the tokenizer read next to a model.bin.

    The preprocessing is one of them where it has another number of mels than usual, as of the
    third version of Whisper. Raises ResourceError where the configuration, the tokenizer or the
    vocabulary is missing, or the preprocessing is damaged.
    """
    folder = file.paths[0].parent
    found = {
        name: (folder / name).read_bytes() for name in _COMPANIONS if (folder / name).is_file()
    }
    if not {"config.json", _TOKENIZER} <= found.keys() or len(found) < 3:
        raise ResourceError(
            f"weights {file.name}: faster-whisper reads a CTranslate2 model.bin with config.json, "
            f"tokenizer.json and vocabulary.txt or .json in its folder, but {folder} contains "
            f"{', '.join(found) or 'none of these'}; set extract.asr.checkpoint to such a "
            "model.bin, or extract.asr.engine to openai-whisper"
        )
    preprocessor = folder / _PREPROCESSOR
    if preprocessor.is_file():
        data = preprocessor.read_bytes()
        where = f"weights {preprocessor}"
        text = read_text(preprocessor, where, ResourceError)
        if json_object(text, where, ResourceError).get("feature_size") != _USUAL_MELS:
            found[_PREPROCESSOR] = data
    return found


@cache
def open_engine(
    engine: str, files: tuple[WeightFile, ...], device: str, compute_type: str
) -> Engine:
    """An engine, cached in the process; files: the checkpoint, then those that belong to it, if not
    in its folder. Raises ResourceError for weights that can't be loaded,
    ConfigError for a compute_type that the device doesn't support."""
    if engine == "openai-whisper":
        return OpenaiWhisper(files[0], device)
    return FasterWhisper(files, device, compute_type)
