"""Words and their statistics, by examples."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.fuse.model.words import WordStatistics, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Get your kicks on Route 66!", ["get", "your", "kicks", "on", "route", "66"]),
        ("OPEN\n24/7", ["open", "24", "7"]),
        ("don't", ["don", "t"]),
        ("Straße, STRASSE", ["strasse", "strasse"]),
        ("\ufb01ne \uff21\uff22", ["fine", "ab"]),  # a ligature, and full-width letters
        ("caf\u00e9 cafe\u0301", ["caf\u00e9", "caf\u00e9"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", ["\u0939\u093f\u0928\u094d\u0926\u0940"]),  # marks
        ("\u5317\u4eac\u6b22 \u5317\u4eac", ["\u5317\u4eac\u6b22", "\u5317\u4eac"]),
        ("... -- !?", []),
        ("", []),
    ],
)  # fmt: skip
def test_words_are_runs_of_letters_marks_and_digits(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.text())
def test_words_of_words_are_themselves(text: str) -> None:
    words = words_of(text)
    assert words_of(" ".join(words)) == words
    assert all(words)


def test_statistics_count_documents_and_not_repetitions() -> None:
    known = WordStatistics.of([["open", "open", "now"], ["open"], []])
    assert (known.documents, known.words) == (3, 4)
    assert known.frequency == {"now": 1, "open": 2}
    assert WordStatistics.model_validate(known.model_dump()) == known


def test_weights_by_hand() -> None:
    known = WordStatistics.of([["this", "is", "taxi"], ["this", "is", "soup"], ["open"], ["bar"]])
    weights = known.weights(["this", "taxi", "taxi", "zanzibar"])
    penalty = 1.5 * (1 - 0.75 + 0.75 * 4 / 2)  # four words, the mean is two
    assert weights == pytest.approx(
        {
            "this": math.log(1 + 2.5 / 2.5) * 1 / (1 + penalty),
            "taxi": math.log(1 + 3.5 / 1.5) * 2 / (2 + penalty),
            "zanzibar": math.log(1 + 4.5 / 0.5) * 1 / (1 + penalty),
        }
    )


@pytest.mark.parametrize("documents", [[], [[], []]])
def test_without_a_training_string_weights_are_finite(documents: list[list[str]]) -> None:
    weights = WordStatistics.of(documents).weights(["open", "now"])
    assert all(0 < weight < math.inf for weight in weights.values())


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=5), max_size=6))
def test_weights_are_positive_and_a_rarer_word_weighs_more(
    documents: list[list[str]],
) -> None:
    known = WordStatistics.of(documents)
    weights = known.weights(["a", "b", "z"])
    assert min(weights.values()) > 0
    order = sorted(weights, key=lambda word: known.frequency.get(word, 0))
    assert [weights[word] for word in order] == sorted(weights.values(), reverse=True)
