"""Token-wise scoring against its definition in loops, and where it must be defined."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.fuse.config import ModelConfig
from m2hf.fuse.model import interaction, scorers
from m2hf.fuse.model.scorers import MeanScorer, TokenwiseScorer, mean_score
from m2hf.fuse.model.tokens import Tokens

D = 4


def tokens(counts: list[int], pad: int = 0) -> Tokens:
    n = max(1, *counts) + pad
    mask = torch.arange(n) < torch.tensor(counts)[:, None]
    values = torch.randn(len(counts), n, D, dtype=torch.float64)
    return Tokens(values, mask, torch.zeros(len(counts), n))


def scorer() -> TokenwiseScorer:
    torch.manual_seed(3)
    made = TokenwiseScorer(D, ModelConfig(width=4, heads=1)).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def softmax(logits: list[float]) -> list[float]:
    top = [math.exp(x - max(logits)) for x in logits]
    return [x / sum(top) for x in top]


def by_definition(made: TokenwiseScorer, queries: Tokens, videos: Tokens, q: int, v: int) -> float:
    """1/2 [sum_i w_i max_j c_ij + sum_j w_j max_i c_ij], a loop at a time."""
    words = list(queries.values[q][queries.mask[q]])
    words = words[1:] or words
    rows = list(videos.values[v][videos.mask[v]])
    if not words or not rows:
        return 0.0
    w_i = softmax([float(made.word_weight(word)) for word in words])
    w_j = softmax([float(made.row_weight(row)) for row in rows])
    total = sum(w * max(cosine(i, j) for j in rows) for w, i in zip(w_i, words, strict=True))
    total += sum(w * max(cosine(i, j) for i in words) for w, j in zip(w_j, rows, strict=True))
    return total / 2


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.integers(0, 2),
    st.integers(1, 60),
    st.integers(1, 3),
)
@torch.no_grad()
def test_definition_in_chunks_and_groups_of_any_size(
    words: list[int], rows: list[int], pad: int, cells: int, groups: int
) -> None:
    made = scorer()
    queries, videos = tokens(words, pad), tokens(rows, pad)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interaction, "CELLS", cells)
        patch.setattr(interaction, "_GROUPS", groups)
        scores = made(queries, videos)
    for q in range(len(words)):
        for v in range(len(rows)):
            expected = by_definition(made, queries, videos, q, v)
            assert float(scores[q, v]) == pytest.approx(expected, abs=1e-9)


def test_gradients() -> None:
    made = scorer()
    queries, videos = tokens([3, 1, 0]), tokens([2, 0, 4])

    def score(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return made(Tokens(q, queries.mask, queries.time_s), Tokens(v, videos.mask, videos.time_s))

    inputs = (queries.values.requires_grad_(), videos.values.requires_grad_())
    assert torch.autograd.gradcheck(score, inputs)
    assert torch.autograd.gradcheck(
        lambda q, v: mean_score(
            Tokens(q, queries.mask, queries.time_s), Tokens(v, videos.mask, videos.time_s)
        ),
        inputs,
    )


def test_everything_masked_has_numbers_and_gradients() -> None:
    made = scorer()
    scores = made(tokens([0, 0]), tokens([0]))
    torch.autograd.backward(scores.sum())
    assert not scores.any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())


@torch.no_grad()
def test_the_mean_reads_the_sentence_alone() -> None:
    queries, videos = tokens([3, 2]), tokens([2, 2])
    first = Tokens(queries.values[:, :1], queries.mask[:, :1], queries.time_s[:, :1])
    assert torch.equal(mean_score(queries, videos), mean_score(first, videos))


@torch.no_grad()
def test_weights_start_equal() -> None:
    made = TokenwiseScorer(D, ModelConfig()).double()
    weights = scorers._weights(made.word_weight, tokens([4, 2, 0]))
    assert weights.tolist() == [[0.25] * 4, [0.5, 0.5, 0, 0], [0.0] * 4]


def test_prepared_means_give_the_same_bits() -> None:
    made = MeanScorer(D, ModelConfig(width=4, heads=1))
    queries, videos = tokens([1, 1, 0]), tokens([3, 1, 0, 2], pad=1)
    expected = made(queries, videos)
    assert torch.equal(made(queries, made.prepared(videos)), expected)
    assert torch.equal(made(made.prepared(queries), made.prepared(videos)), expected)
    assert made.prepared(videos).values.shape == (4, 1, D)
    assert torch.equal(made.prepared(videos).present, videos.present)


def test_prepared_tokens_keep_all_rows_where_each_is_compared() -> None:
    videos = tokens([3, 1])
    assert scorer().prepared(videos) is videos
