"""Which frames `clip`, `thumbnail` and `ocr` take of a file that stores a frame only when it
changes: those of its twin at a constant rate, and no slide is left out."""

from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest
from numpy.typing import NDArray

from m2hf.extract.base import MediaExtractor
from m2hf.extract.media.decode import decode
from m2hf.extract.ocr import Ocr, OcrSession
from m2hf.extract.thumbnail import Thumbnailer
from m2hf.features import Features
from m2hf.pipelines.config import ExtractConfig

COLOURS = ["red", "lime", "blue", "yellow", "magenta", "cyan"]
CONFIG = ExtractConfig.model_validate({"encoder": {"model": "m2hf-tiny", "pretrained": ""}})


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Six slides of 3 s: each stored once, and at 25 frames a second."""
    folder = tmp_path_factory.mktemp("slides")
    once = media.slides(folder / "once.mp4", COLOURS, 3)
    twin = media.colours(folder / "twin.mp4", [(colour, 3.0) for colour in COLOURS])
    return once, twin


def features(extractor: MediaExtractor, path: Path) -> Features:
    return extractor.open("cpu").extract(decode(path, extractor.views(), extractor.sample_rates()))


@pytest.mark.parametrize("most", [4, 12, 18, 30])
def test_clip_has_the_frames_of_the_twin(twins: tuple[Path, Path], most: int) -> None:
    extractor = CONFIG.extractor("clip").model_copy(update={"max_frames": most})
    assert isinstance(extractor, MediaExtractor)
    once, twin = (features(extractor, path) for path in twins)
    assert len(once.values) == min(most, 18)
    np.testing.assert_array_equal(once.start_s, twin.start_s)
    np.testing.assert_array_equal(once.end_s, twin.end_s)
    assert (once.values * twin.values).sum(axis=1).min() > 0.999


def test_thumbnails_are_even_over_time_and_repeated_only_where_there_are_too_many(
    twins: tuple[Path, Path],
) -> None:
    once, twin = (features(Thumbnailer(max_frames=12), path) for path in twins)
    np.testing.assert_allclose(once.values, twin.values, atol=0.03)
    assert len(features(Thumbnailer(max_frames=99), twins[0]).values) == len(COLOURS)


class ColourReader:
    """In place of an engine: the text of a frame is its mean colour."""

    def read(self, frame: NDArray[np.uint8]) -> list[Any]:
        red, green, blue = (frame.mean(axis=(0, 1)) > 128).astype(int)
        return [([[0, 0], [8, 0], [8, 8], [0, 8]], f"{red}{green}{blue}", 0.9)]


@pytest.mark.parametrize("stored", [0, 1])
def test_ocr_reads_each_slide_once(twins: tuple[Path, Path], stored: int) -> None:
    declared = Ocr(max_frames=len(COLOURS))
    session = object.__new__(OcrSession)
    session._declared, session._reader = declared, ColourReader()
    found = session.extract(decode(twins[stored], declared.views()))
    assert found.texts == ("100", "010", "001", "110", "101", "011")
    np.testing.assert_allclose(found.start_s, [0, 3, 6, 9, 12, 15], atol=1.01)
    assert found.end_s[-1] == pytest.approx(18, abs=0.01)
