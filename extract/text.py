"""Text of a clip (OCR and speech) as vectors of the joint space."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from m2hf.array_types import BoolArray, FloatArray
from m2hf.extract.asr import is_hallucinated
from m2hf.extract.base import DerivedExtractor, DerivedSession
from m2hf.extract.networks.joint_space import JointSpaceExtractor, TextModel, is_open_clip
from m2hf.features import Features, unit_rows
from m2hf.streams import ASR, OCR, TEXT

NO_TEXT = "no text read or heard"


class Text(JointSpaceExtractor, DerivedExtractor):
    """Values (N, D): a row per line of text, embedded as a caption is, with its text and times.

    The OCR strings of one frame are one line, and each segment of speech is one. A line that OCR
    finds again later is one line, which ends later. A line longer than the text tower's input
    becomes several rows.

    By a CLIP each row is the unit vector of its line. By a sentence encoder the rows are moved by
    one vector, so that their mean, which is what is scored, is the unit vector of the whole text:
    all lines joined, as one passage, or where that is too long the mean of its parts by tokens.
    """

    name: ClassVar[str] = TEXT
    revision: ClassVar[int] = 2
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    texts: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = (OCR, ASR)

    ocr_confidence: float = Field(default=0.3, ge=0.0, le=1.0)
    """OCR strings of lower confidence (0..1) are left out."""

    asr_confidence: float = Field(default=0.2, ge=0.0, le=1.0)
    """Speech segments of lower confidence, exp(avg_logprob), are left out."""

    hallucinated: bool = False
    """Whether to include segments that `asr` flags as hallucinated."""

    def open(self, device: str) -> "TextSession":
        return TextSession(self, device)


@dataclass
class _Line:
    text: str
    start_s: float
    end_s: float
    confidence: float


class TextSession(DerivedSession):
    def __init__(self, declared: Text, device: str) -> None:
        self._declared = declared
        self._model: TextModel = declared.encoder.open(device)
        self._as_whole = not is_open_clip(declared.encoder)

    def extract(self, inputs: Mapping[str, Features]) -> Features:
        declared = self._declared
        lines = [
            *_ocr_lines(inputs[OCR], declared.ocr_confidence),
            *_asr_lines(inputs[ASR], declared.asr_confidence, declared.hallucinated),
        ]
        rows = [
            _Line(chunk, line.start_s, line.end_s, line.confidence)
            for line in lines
            for chunk in _chunks(line.text, self._model)
        ]
        if not rows:
            return Features.empty(NO_TEXT, self._model.width, texts=True)
        values_ND = self._model.encode_sentences([row.text for row in rows])
        if self._as_whole:
            values_ND += self._whole(" ".join(line.text for line in lines)) - values_ND.mean(axis=0)
        return Features(
            values_ND,
            np.array([row.start_s for row in rows]),
            np.array([row.end_s for row in rows]),
            texts=tuple(row.text for row in rows),
            confidence=np.array([row.confidence for row in rows]),
        )

    def _whole(self, text: str) -> FloatArray:
        """(D,) unit vector of a text of any length."""
        parts = list(_chunks(text, self._model))
        weights_P = np.array([self._model.token_count(part) for part in parts], np.float32)
        whole_D: FloatArray = unit_rows(weights_P[None] @ self._model.encode_sentences(parts))[0]
        return whole_D


def _strings(features: Features, least: float, kept: BoolArray) -> Iterator[_Line]:
    """The strings selected by `kept` (N,) whose confidence is at least `least`."""
    if features.texts is None or features.confidence is None:
        raise ValueError("expected features with strings")
    columns = zip(
        features.texts, features.start_s, features.end_s, features.confidence, strict=True
    )
    for (text, start, end, confidence), keep in zip(columns, kept, strict=True):
        if keep and text.strip() and confidence >= least:
            yield _Line(text.strip(), float(start), float(end), float(confidence))


def _ocr_lines(ocr: Features, least: float) -> list[_Line]:
    frames: dict[float, list[_Line]] = {}
    for string in _strings(ocr, least, np.ones(len(ocr.values), np.bool_)):
        frames.setdefault(string.start_s, []).append(string)
    lines: dict[str, _Line] = {}
    for start, strings in sorted(frames.items()):
        text = " ".join(s.text for s in strings)
        confidence = sum(s.confidence for s in strings) / len(strings)
        line = lines.setdefault(text.casefold(), _Line(text, start, strings[0].end_s, confidence))
        line.end_s = max(line.end_s, strings[0].end_s)
        line.confidence = max(line.confidence, confidence)
    return list(lines.values())


def _asr_lines(asr: Features, least: float, hallucinated: bool) -> list[_Line]:
    kept = np.full(len(asr.values), hallucinated) | ~is_hallucinated(asr)
    return list(_strings(asr, least, kept))


def _chunks(text: str, model: TextModel) -> Iterator[str]:
    """`text` in parts of whole words, each short enough for the text tower.

    A single word that is too long (a long number, a script without spaces) is split by
    characters.
    """
    whole = " ".join(text.split())
    if 0 < model.token_count(whole) <= model.max_tokens:
        yield whole
        return
    part = ""
    for word in text.split():
        longer = f"{part} {word}".strip()
        if model.token_count(longer) <= model.max_tokens:
            part = longer
            continue
        if part:
            yield part
        while model.token_count(word) > model.max_tokens:
            fits = next(
                n
                for n in range(len(word), 0, -1)
                if model.token_count(word[:n]) <= model.max_tokens
            )
            yield word[:fits]
            word = word[fits:]
        part = word
    if part and model.token_count(part):
        yield part
