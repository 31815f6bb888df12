"""RapidOCR: the PP-OCRv4 networks (Chinese and English) in ONNX Runtime, on the CPU."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.extract.inference.clock import Clocked
from m2hf.extract.weights.weight import PackagedFile, Weight, WeightFile

PACKAGE = "rapidocr-onnxruntime"
LIBRARIES = ("onnxruntime", "pyclipper", PACKAGE, "shapely")
"""What decides the strings besides numpy and OpenCV."""
_GET = (
    f"install RapidOCR, which has them: pip install --no-deps {PACKAGE} pyclipper shapely (its "
    "dependency opencv-python would replace opencv-python-headless); or set extract.ocr.engine to "
    "easyocr"
)


class RapidOcrReader:
    """Reads text in frames; canvas: most pixels of the longer side of the detector's input."""

    def __init__(self, files: tuple[WeightFile, ...], canvas: int, threads: int) -> None:
        from rapidocr_onnxruntime import RapidOCR
        from rapidocr_onnxruntime.ch_ppocr_det.utils import DetPreProcess

        find, turn, read = (str(file.paths[0]) for file in files)
        self._reader: Any = RapidOCR(
            det_model_path=find,
            cls_model_path=turn,
            rec_model_path=read,
            intra_op_num_threads=threads,
            text_score=0.0,  # no string is dropped: `text` leaves out those of low confidence
        )
        for file in files:
            file.confirm()
        detector = self._reader.text_det
        resize = DetPreProcess(canvas, "max", detector.mean, detector.std)
        detector.get_preprocess = lambda longer: resize  # its own rule enlarges every frame
        for part in (detector.infer, self._reader.text_cls.infer, self._reader.text_rec.session):
            part.session = Clocked(part.session, "run")

    def read(self, frame: NDArray[np.uint8]) -> list[Any]:
        """(corners in pixels, string, confidence) of each string in an RGB frame (H, W, 3)."""
        found, _ = self._reader(np.ascontiguousarray(frame[..., ::-1]))  # BGR
        return [string for string in found or [] if string[1]]


def weights() -> tuple[Weight, ...]:
    """The networks that find, turn and read text."""

    def weight(name: str, size_mb: int, sha256: str) -> Weight:
        packaged = PackagedFile(((PACKAGE, f"rapidocr_onnxruntime/models/{name}"),))
        return Weight(name, size_mb, sha256, packaged=packaged, get=_GET)

    return (
        weight(
            "ch_PP-OCRv4_det_infer.onnx",
            5,
            "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        ),
        weight(
            "ch_ppocr_mobile_v2.0_cls_infer.onnx",
            1,
            "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        ),
        weight(
            "ch_PP-OCRv4_rec_infer.onnx",
            11,
            "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        ),
    )
