"""The text of a clip by a sentence encoder: lines with times, whose mean is the whole text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_encoders import WORDS, save_sentence_encoder

from m2hf.extract.asr import Asr
from m2hf.extract.networks.sentence_encoder import SentenceEncoder, SentenceModel
from m2hf.extract.text import NO_TEXT, Text, TextSession
from m2hf.features import Features
from m2hf.streams import ASR, OCR


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    prompts = {"query": "query: ", "passage": "passage: "}
    folder = save_sentence_encoder(tmp_path_factory.mktemp("encoder"), prompts=prompts)
    return SentenceEncoder(model=str(folder))


@pytest.fixture(scope="module")
def model(encoder: SentenceEncoder) -> SentenceModel:
    return encoder.open("cpu")


@pytest.fixture(scope="module")
def session(encoder: SentenceEncoder) -> TextSession:
    return Text(encoder=encoder).open("cpu")


def read(texts: Sequence[str], width: int = 1) -> Features:
    """Strings of a second each, one after the other."""
    times, ones = np.arange(len(texts), dtype=float), np.ones(len(texts))
    return Features(np.zeros((len(texts), width)), times, times + 1, tuple(texts), ones)


def heard(texts: Sequence[str]) -> Features:
    return read(texts, len(Asr.columns))


SILENT = Features.empty("no", len(Asr.columns), texts=True)


def unit(x: Any) -> Any:
    return x / np.linalg.norm(x)


def test_the_mean_of_the_rows_is_the_whole_text_and_rows_keep_their_lines(
    session: TextSession, model: SentenceModel
) -> None:
    made = session.extract({OCR: read(["Speed", "a car"]), ASR: heard(["a dog sign"])})
    whole = model.encode(["Speed a car a dog sign"], "passage")[0]
    np.testing.assert_allclose(made.values.mean(axis=0), whole, atol=1e-6)
    assert made.texts == ("Speed", "a car", "a dog sign")
    assert made.start_s.tolist() == [0, 1, 0]
    lines = model.encode_sentences(list(made.texts))
    moved = made.values - lines
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-6)


def test_one_line_is_the_vector_of_that_line(session: TextSession, model: SentenceModel) -> None:
    made = session.extract({OCR: read(["limit"]), ASR: SILENT})
    np.testing.assert_allclose(made.values, model.encode_sentences(["limit"]), atol=1e-6)
    assert session.extract({OCR: SILENT, ASR: SILENT}).reason == NO_TEXT


def test_a_text_longer_than_the_model_reads_is_the_mean_of_its_parts_by_tokens(
    session: TextSession, model: SentenceModel
) -> None:
    lines = ["cat " * 15, "dog " * 15, "car " * 6]
    made = session.extract({OCR: SILENT, ASR: heard([line.strip() for line in lines])})
    first, second = "cat " * 15 + "dog " * 5, "dog " * 10 + "car " * 6
    assert model.max_tokens == 20
    parts = model.encode_sentences([first.strip(), second.strip()])
    np.testing.assert_allclose(
        unit(made.values.mean(axis=0)), unit(20 * parts[0] + 16 * parts[1]), atol=1e-6
    )


@given(
    st.lists(st.lists(st.sampled_from(WORDS[:6]), min_size=1, max_size=9), min_size=1, max_size=7)
)
@settings(max_examples=25)
def test_whatever_the_lines_their_mean_has_norm_1_and_none_is_lost(
    session: TextSession, model: SentenceModel, words: list[list[str]]
) -> None:
    lines = [" ".join(line) for line in words]
    made = session.extract({OCR: SILENT, ASR: heard(lines)})
    assert np.linalg.norm(made.values.mean(axis=0)) == pytest.approx(1, abs=1e-5)
    assert list(made.texts or ()) == lines
    if model.token_count(text := " ".join(lines)) <= model.max_tokens:
        whole = model.encode_sentences([text])[0]
        np.testing.assert_allclose(made.values.mean(axis=0), whole, atol=1e-5)
