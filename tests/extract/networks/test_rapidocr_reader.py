"""RapidOCR reads the frames that the view gives, from its hashed files, on the job's threads."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from m2hf.errors import ResourceError
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.networks import rapidocr_reader
from m2hf.extract.networks.rapidocr_reader import RapidOcrReader
from m2hf.extract.ocr import Ocr

Frame = NDArray[np.uint8]
Made = Callable[..., RapidOcrReader]


@pytest.fixture(scope="module")
def reader() -> Made:
    try:
        distribution(rapidocr_reader.PACKAGE)
    except PackageNotFoundError:
        pytest.skip("RapidOCR is not installed: `make install` installs it")
    files = tuple(weight.locate() for weight in rapidocr_reader.weights())
    return lambda canvas=640, threads=1: RapidOcrReader(files, canvas, threads)


def sign(text: str, height: int = 90, width: int = 320) -> Frame:
    """Red letters on white."""
    import cv2

    frame = np.full((height, width, 3), 255, np.uint8)
    cv2.putText(frame, text, (20, height - 30), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (200, 0, 0), 3)
    return frame


def test_a_sign_has_its_box_its_text_and_the_time_it_took(reader: Made) -> None:
    CLOCK.take()
    (found,) = reader().read(sign("SPEED 45"))
    assert CLOCK.take() > 0
    corners, text, confidence = found
    assert text.replace(" ", "") == "SPEED45"
    assert confidence > 0.9
    inked = np.argwhere(sign("SPEED 45")[..., 1] < 128)[:, ::-1]
    np.testing.assert_allclose(np.min(corners, axis=0), inked.min(axis=0), atol=10)
    np.testing.assert_allclose(np.max(corners, axis=0), inked.max(axis=0), atol=10)


def test_the_networks_get_blue_first(reader: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, given = reader(), []

    def seen(frame: Any) -> Any:
        given.append(frame)
        return None, None

    monkeypatch.setattr(opened, "_reader", seen)
    frame = sign("RED")
    assert opened.read(frame) == []
    np.testing.assert_array_equal(given[0], frame[..., ::-1])
    assert given[0].flags.c_contiguous


@pytest.mark.parametrize("size", [(2, 2), (1, 640), (640, 1), (16, 640), (33, 47), (700, 40)])
def test_a_frame_of_any_size_without_text_has_none(reader: Made, size: tuple[int, int]) -> None:
    assert reader().read(np.zeros((*size, 3), np.uint8)) == []


def test_the_detector_has_the_canvas_at_most_and_never_a_larger_frame(reader: Made) -> None:
    shapes = []
    for canvas in (128, 320):
        opened = reader(canvas)
        network = opened._reader.text_det.infer.session

        def run(names: Any, inputs: Any, network: Any = network) -> Any:
            shapes.extend(array.shape for array in inputs.values())
            return network.run(names, inputs)

        opened._reader.text_det.infer.session = Spy(network, run)
        opened.read(sign("STOP"))
    assert shapes == [(1, 3, 32, 128), (1, 3, 96, 320)]


class Spy:
    """A session whose run is `run`."""

    def __init__(self, session: Any, run: Any) -> None:
        self._session, self.run = session, run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def test_the_threads_are_those_of_the_job(reader: Made) -> None:
    for threads in (1, 2):
        detector = reader(threads=threads)._reader.text_det.infer.session
        assert detector.get_session_options().intra_op_num_threads == threads


def test_without_the_package_one_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("m2hf.extract.weights.weight.PackagedFile.find", lambda self: None)
    declared = Ocr(engine="rapidocr")
    with pytest.raises(ResourceError, match=r"det_infer\.onnx \(5 MB, .* --no-deps rapidocr-onn"):
        declared.weights()


def test_the_engine_is_part_of_the_fingerprint_unless_it_is_easyocr(
    reader: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Ocr(engine="rapidocr").declared({})["config"]["engine"] == "rapidocr"
    monkeypatch.setattr(Ocr, "weights", lambda self: {})
    easy, rapid = Ocr(), Ocr(engine="rapidocr")
    assert "engine" not in easy.declared({})["config"]  # stores are older than the choice
    assert easy.fingerprint() != rapid.fingerprint()
