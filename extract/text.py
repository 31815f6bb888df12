"""Text read or heard in a clip, as unit vectors of the captions' space."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from m2hf.array_types import BoolArray
from m2hf.extract.asr import is_invented
from m2hf.extract.base import DerivedExtractor, DerivedSession
from m2hf.extract.networks.encoder import InJointSpace, OpenClip
from m2hf.features import Features

NO_TEXT = "no text read or heard"


class Text(InJointSpace, DerivedExtractor):
    """Values (N, D): a row for each line of text, embedded like a query, with its text and times.

    What is read at one time is one line, and each segment of speech is one; a line that is read
    again only lasts longer. A line longer than the text tower reads becomes several rows.
    ocr_confidence, asr_confidence: strings below these are left out, and so are segments that
    `asr` takes for invented, unless `invented` is set.
    """

    name: ClassVar[str] = "text"
    revision: ClassVar[int] = 2
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "open_clip_torch", "torch")
    texts: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("ocr", "asr")

    ocr_confidence: float = Field(default=0.3, ge=0.0, le=1.0)
    asr_confidence: float = Field(default=0.2, ge=0.0, le=1.0)
    invented: bool = False

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
        self._model = declared.encoder.open(device)

    def extract(self, inputs: Mapping[str, Features]) -> Features:
        declared = self._declared
        lines = [
            *_lines_read(inputs["ocr"], declared.ocr_confidence),
            *_lines_heard(inputs["asr"], declared.asr_confidence, declared.invented),
        ]
        rows = [
            _Line(chunk, line.start_s, line.end_s, line.confidence)
            for line in lines
            for chunk in _chunks(line.text, self._model)
        ]
        if not rows:
            return Features.empty(NO_TEXT, self._model.width, texts=True)
        return Features(
            self._model.encode_sentences([row.text for row in rows]),
            np.array([row.start_s for row in rows]),
            np.array([row.end_s for row in rows]),
            texts=tuple(row.text for row in rows),
            confidence=np.array([row.confidence for row in rows]),
        )


def _strings(features: Features, least: float, kept: BoolArray) -> Iterator[_Line]:
    """The strings that `kept` (N,) says, from the confidence `least` on."""
    if features.texts is None or features.confidence is None:
        raise ValueError("expected features with strings")
    columns = zip(
        features.texts, features.start_s, features.end_s, features.confidence, strict=True
    )
    for (text, start, end, confidence), keep in zip(columns, kept, strict=True):
        if keep and text.strip() and confidence >= least:
            yield _Line(text.strip(), float(start), float(end), float(confidence))


def _lines_read(ocr: Features, least: float) -> list[_Line]:
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


def _lines_heard(asr: Features, least: float, invented: bool) -> list[_Line]:
    return list(_strings(asr, least, np.full(len(asr.values), invented) | ~is_invented(asr)))


def _chunks(text: str, model: OpenClip) -> Iterator[str]:
    """`text` in parts of whole words that the text tower reads in full.

    A single word that is longer than that (a long number, a script without spaces) is split by
    characters.
    """
    part = ""
    for word in text.split():
        longer = f"{part} {word}".strip()
        if model.token_count(longer) <= model.room:
            part = longer
            continue
        if part:
            yield part
        while model.token_count(word) > model.room:
            fits = next(
                n for n in range(len(word), 0, -1) if model.token_count(word[:n]) <= model.room
            )
            yield word[:fits]
            word = word[fits:]
        part = word
    if part and model.token_count(part):
        yield part
