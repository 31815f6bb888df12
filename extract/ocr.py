"""Text recognition in frames, by EasyOCR or RapidOCR."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from m2hf.extract.base import MediaExtractor, MediaSession
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.changes import changed
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.views import ColourView, FrameView
from m2hf.extract.networks import easyocr_reader, rapidocr_reader
from m2hf.extract.weights.weight import Weight
from m2hf.features import Features
from m2hf.streams import OCR

NO_TEXT = "no text found"
Reading = tuple[list[list[float]], str, float]  # corners in pixels, string, confidence


class Reader(Protocol):
    """A loaded engine."""

    def read(self, frame: NDArray[np.uint8]) -> list[Reading]:
        """The strings in one RGB frame (H, W, 3)."""


class Ocr(MediaExtractor):
    """N strings of text, with the recogniser's confidence; values (N, 4): the bounding
    box, as fractions of the frame. A string lasts from its frame to the next frame that was read.
    """

    name: ClassVar[str] = OCR
    revision: ClassVar[int] = 3
    columns: ClassVar[tuple[str, ...]] = ("left", "top", "right", "bottom")
    libraries: ClassVar[tuple[str, ...]] = ("easyocr", "numpy", "opencv-python-headless", "torch")
    texts: ClassVar[bool] = True
    network: ClassVar[bool] = True

    view: ColourView = FrameView(fps=1.0, max_side=640)
    """The frames to choose from."""

    engine: Literal["easyocr", "rapidocr"] = "easyocr"
    """Library that reads text: easyocr (English) or rapidocr (PP-OCR, Chinese and English), which
    runs on the CPU alone, takes less time, and drops some spaces. Each has its own scale of
    confidence."""

    every_s: float = Field(default=2.0, ge=0.01, le=86_400.0)
    """Seconds between frames that are read, rounded to whole frames of `view`; a frame that stays
    on the screen as long is never missed."""

    max_frames: int = Field(default=12, ge=1, le=1 << 16)
    """Most frames that are read per clip; of more that differ, as many are chosen evenly."""

    canvas: int = Field(default=640, ge=64, le=1 << 14)
    """Longer side of the text detector's input, in pixels: a larger one finds smaller text, and
    takes longer."""

    same: float = Field(default=4.0, ge=0.0)
    """A frame is skipped if no block of it differs from the frame read last by this mean grey
    level, of 255."""

    folder: str = Field(default="", exclude=True)
    """Folder of EasyOCR's weights (.pth); "" takes the installed package's, else EasyOCR's own."""

    def needs(self) -> tuple[Weight, ...]:
        if self.engine == "rapidocr":
            return rapidocr_reader.weights()
        return easyocr_reader.weights(self.folder)

    def settings(self, upstream: Mapping[str, str]) -> dict[str, Any]:
        """Without the engine where it is EasyOCR, so that the features of old stores are found."""
        found = super().settings(upstream)
        if self.engine == "easyocr":
            del found["config"]["engine"]
        return found

    def environment(self) -> dict[str, str]:
        used = rapidocr_reader.LIBRARIES if self.engine == "rapidocr" else ()
        return super().environment() | {name: version(name) for name in used}

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def open(self, device: str) -> "OcrSession":
        return OcrSession(self, device)


class OcrSession(MediaSession):
    def __init__(self, declared: Ocr, device: str) -> None:
        self._declared = declared
        self._reader = _open(declared, device)

    def extract(self, clip: DecodedClip) -> Features:
        declared = self._declared
        frames = clip.frames(declared.view)
        if isinstance(frames, Absent):
            return Features.empty(frames.reason, declared.width, texts=True)
        shown, _ = frames.shown_in_steps(declared.view.fps)
        stride = max(1, round(declared.every_s * declared.view.fps))
        read = changed(frames.pixels, np.unique(shown[::stride]), declared.same)
        if len(read) > declared.max_frames:
            chosen = np.linspace(0, len(read) - 1, declared.max_frames).astype(int)
            read = [read[i] for i in chosen]
        boxes, texts, confidence, start, end = [], [], [], [], []
        for index, until in zip(read, [*read[1:], None], strict=True):
            frame = frames.pixels[index]
            size = np.array([frame.shape[1], frame.shape[0]] * 2, dtype=np.float64)
            for corners, text, score in self.read(frame):
                points = np.asarray(corners, dtype=np.float64)
                box = np.concatenate([points.min(axis=0), points.max(axis=0)]) / size
                boxes.append(np.clip(box, 0.0, 1.0))
                texts.append(text)
                confidence.append(min(max(float(score), 0.0), 1.0))
                start.append(frames.start_s[index])
                end.append(frames.end_s[-1] if until is None else frames.start_s[until])
        if not texts:
            return Features.empty(NO_TEXT, declared.width, texts=True)
        return Features(
            np.stack(boxes).astype(np.float32),
            np.array(start),
            np.array(end),
            texts=tuple(texts),
            confidence=np.array(confidence),
        )

    def read(self, frame: NDArray[np.uint8]) -> list[Reading]:
        """The strings in one RGB frame (H, W, 3)."""
        return self._reader.read(frame)


def _open(declared: Ocr, device: str) -> Reader:
    files = tuple(weight.locate() for weight in declared.needs())
    if declared.engine == "rapidocr":
        import torch

        threads = torch.get_num_threads()  # set by the job
        return rapidocr_reader.RapidOcrReader(files, declared.canvas, threads)
    return easyocr_reader.EasyOcrReader(files, device, declared.canvas)
