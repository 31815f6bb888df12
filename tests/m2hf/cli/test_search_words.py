"""`m2hf search` with a level of words: a name that no vector knows, and bad settings."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from searchable import CONFIG, Searchable
from typer.testing import CliRunner

from m2hf.cli.app import app
from m2hf.errors import M2hfError
from m2hf.features import Features
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.stream import Stream
from m2hf.fuse.training.run import train

NAME = "ZANZIBAR 66"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Searchable:
    """Sound of every other video has the same words; one sign has a name. `run` has the level."""
    torch.set_num_threads(1)
    corpus = Searchable(tmp_path_factory.mktemp("searchable"))
    ocr, asr, text = (Stream.open(corpus.layout, name) for name in ("ocr", "asr", "text"))
    signs = {row.id: ocr.features(row.id) for row in corpus.manifest.rows[:-1]}
    lines = {video: text.features(video) for video in signs if text.holds([video])[0]}
    signs["v10"], lines["v10"] = renamed(signs["v10"]), renamed(lines["v10"])
    reads = {"ocr": corpus.write("ocr", signs, 4), "asr": asr.header.fingerprint}
    corpus.write("text", lines, text.info.width, {"extractor": "text", "reads": reads})
    levels = {**CONFIG["levels"], "words": {"enabled": True}}  # type: ignore[dict-item]
    corpus.run = corpus.folder / "words"
    config = FusionConfig.model_validate({**CONFIG, "levels": levels})
    train(corpus.manifest, corpus.store, corpus.run, config)
    return corpus


def renamed(features: Features) -> Features:
    """The same, where the first string is the name."""
    assert features.texts is not None
    confidence = np.ones(len(features.texts), np.float32)
    return Features(
        features.values,
        features.start_s,
        features.end_s,
        (NAME, *features.texts[1:]),
        confidence,
    )


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.parametrize("query", ["a sign says Zanzibar", "zanzibar", "the number 66"])
def test_a_name_is_found_by_its_word_alone(corpus: Searchable, query: str) -> None:
    """The encoder was never trained on it, and its vectors can't tell one such word from others."""
    done = invoke("search", query, *corpus.paths, "--top", "99", "--json")
    assert done.exit_code == 0, done.output
    found = {hit["video"]: hit["levels"]["words"] for hit in json.loads(done.stdout)["hits"]}
    scores = {video: match["score"] for video, match in found.items() if match is not None}
    assert [video for video, score in scores.items() if score > 0] == ["v10"]
    assert found["v11"] is None
    match = found["v10"]
    assert (match["text"], match["origin"], match["relative"]) == (NAME, "read", 1)
    assert (match["start_s"], match["end_s"]) == (1, 2)
    assert found["v00"] == {"score": 0, "relative": 0}


def test_a_string_is_shown_once_with_its_seconds(
    corpus: Searchable, caplog: pytest.LogCaptureFixture
) -> None:
    done = invoke("search", "zanzibar", *corpus.paths, "--top", "99")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    (place,) = (number for number, line in enumerate(lines) if line[5:].startswith("v10  "))
    assert "  words " in lines[place + 1]
    card = [line for line in lines[place + 2 : place + 4] if "zanzibar" in line.lower()]
    assert card == [f"     read at 1.0 to 2.0 s: {NAME}"]
    assert not [record for record in caplog.records if record.name == "bm25s"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("fuse.levels.words.stream=frames",), "level 'words': frames with themselves; set"),
        (
            ("fuse.streams.audio=clip", "fuse.levels.words.stream=audio"),
            r"level words compares words, and audio, which are clip@\w+ of width 128, have no "
            r"strings; read another stream, or disable this level: --set",
        ),
    ],
)
def test_a_stream_without_strings_is_one_line(
    corpus: Searchable, settings: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    told = [part for each in settings for part in ("--set", each)]
    for level, enabled in (("words", True), ("audio_visual", False), ("motion_visual", False)):
        told += ["--set", f"fuse.levels.{level}.enabled={str(enabled).lower()}"]
    done = invoke("train", *corpus.paths[:4], "--run", tmp_path, *told)
    assert isinstance(done.exception, M2hfError)
    assert done.exception.exit_code == 2
    assert re.search(message, str(done.exception))
    assert not list(tmp_path.iterdir())
