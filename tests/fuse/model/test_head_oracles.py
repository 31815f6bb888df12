"""Every head against its definition in loops, and the gradients of all its inputs and weights.

Those of token-wise scoring are in test_token_scoring, of the late rules in test_late_rules.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from m2hf.fuse.config import CompletionConfig, ModelConfig
from m2hf.fuse.model.adapters import NormedProjection, Projection, ResidualAdapter
from m2hf.fuse.model.completion import COMPLETIONS, Completed
from m2hf.fuse.model.early import (
    EARLY_FORMS,
    AddFusion,
    AlignedFusion,
    AppendFusion,
    ConcatFusion,
    CrossAttention,
    Nearby,
)
from m2hf.fuse.model.late_fusion import LATE_FUSIONS, MentionFusion
from m2hf.fuse.model.scorers import mean_score
from m2hf.fuse.model.tokens import Tokens, masked_mean

D, M = 3, 2
MODEL = ModelConfig(width=4, heads=2, dropout=0.0)
Row = list[float]


def tokens(counts: Sequence[int], width: int, seed: int = 0) -> Tokens:
    """Random float64 rows at random seconds, with noise in the padding."""
    made = torch.Generator().manual_seed(seed)
    n = max(1, *counts) + 1
    values = torch.randn(len(counts), n, width, dtype=torch.float64, generator=made)
    time_s = 9 * torch.rand(len(counts), n, dtype=torch.float64, generator=made)
    return Tokens(values, torch.arange(n) < torch.tensor(counts)[:, None], time_s)


def real(item: Tokens, place: int) -> list[tuple[Row, float]]:
    """Real rows of one item, with their seconds."""
    mask = item.mask[place]
    rows, times = item.values[place][mask].tolist(), item.time_s[place][mask].tolist()
    return list(zip(rows, times, strict=True))


def random(module: Any) -> Any:
    """`module` in float64 and evaluation, nothing at its neutral start."""
    torch.manual_seed(5)
    for parameter in module.double().eval().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def linear(layer: Any, x: Row) -> Row:
    weight = layer.weight.tolist()
    bias = [0.0] * len(weight) if layer.bias is None else layer.bias.tolist()
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(weight, bias, strict=True)
    ]


def norm(layer: Any, x: Row) -> Row:
    mean = sum(x) / len(x)
    spread = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + layer.eps)
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [(v - mean) / spread * w + b for v, w, b in zip(x, weight, bias, strict=True)]


def gelu(x: Row) -> Row:
    return [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x]


def add(*rows: Row) -> Row:
    return [sum(column) for column in zip(*rows, strict=True)]


def mean(rows: Sequence[Row], width: int) -> Row:
    return [sum(row[d] for row in rows) / max(1, len(rows)) for d in range(width)]


def close(found: Tensor, expected: Any) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64).view(found.shape)
    torch.testing.assert_close(found.detach(), wanted, rtol=0, atol=1e-6)


def sound_gradients(
    module: nn.Module, call: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> None:
    """gradcheck of call(module, *inputs) in the inputs and in every weight."""
    names = [name for name, _ in module.named_parameters()]
    weights = [p.detach().clone().requires_grad_() for p in module.parameters()]
    free = [x.detach().clone().requires_grad_() for x in inputs]

    def run(*given: Tensor) -> Tensor:
        named = dict(zip(names, given, strict=False))
        wrapped = _Call(module, call)
        renamed = {f"module.{name}": value for name, value in named.items()}
        found: Tensor = torch.func.functional_call(wrapped, renamed, given[len(names) :])
        return found

    assert torch.autograd.gradcheck(run, (*weights, *free))


class _Call(nn.Module):
    def __init__(self, module: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(self.module, *inputs)


def test_residual_adapter() -> None:
    adapter, x = random(ResidualAdapter(D, 4, 0.0)), tokens([2], D).values
    before, first, _, _, last = adapter.change
    expected = [add(r, linear(last, gelu(linear(first, norm(before, r))))) for r in x[0].tolist()]
    close(adapter(x)[0], expected)
    sound_gradients(adapter, lambda module, v: module(v), [x])


def test_projection() -> None:
    projection, x = random(Projection(5, D, 0.5)).eval(), tokens([2], 5).values
    expected = [linear(projection.linear, r) for r in x[0].tolist()]
    close(projection(x)[0], expected)
    sound_gradients(projection, lambda module, v: module(v), [x])
    dropped = projection.train()(torch.zeros(1, 9, 5).double())
    torch.testing.assert_close(dropped, projection.linear.bias.expand(1, 9, D))
    assert not torch.equal(projection(x), projection(x))


def test_normed_projection() -> None:
    projection, x = random(NormedProjection(5, D)), tokens([2], 5).values
    expected = [linear(projection.linear, norm(projection.norm, r)) for r in x[0].tolist()]
    close(projection(x)[0], expected)
    sound_gradients(projection, lambda module, v: module(v), [x])


def seconds(at: float, width: int) -> Row:
    """Sines, then cosines, of periods from 1 s to 1024 s, evenly in octaves."""
    last = width // 2 - 1
    angles = [2 * math.pi * at / 1024 ** (i / last) for i in range(width // 2)]
    return [*map(math.sin, angles), *map(math.cos, angles)]


def attended(attention: CrossAttention, v: tuple[Row, float], other: list[Any]) -> Row:
    """What one frame finds in the real windows of the modality, a head at a time."""
    width, heads = MODEL.width, MODEL.heads
    size = width // heads
    query = add(linear(attention.query[1], norm(attention.query[0], v[0])), seconds(v[1], width))
    m = [
        add(norm(attention.project[1], linear(attention.project[0], row)), seconds(at, width))
        for row, at in other
    ]
    found: Row = []
    for head, rate in enumerate(attention.decay_H.tolist()):
        part = slice(head * size, (head + 1) * size)
        logits = []
        for row, (_, at) in zip(m, other, strict=True):
            key = linear(attention.key, row)[part]
            dot = sum(q * k for q, k in zip(query[part], key, strict=True)) / math.sqrt(size)
            logits.append(dot - math.log1p(math.exp(rate)) * abs(v[1] - at))
        total = sum(map(math.exp, logits))
        values = [linear(attention.value, row)[part] for row in m]
        weighed = [
            [math.exp(x) / total * c for c in c_m] for x, c_m in zip(logits, values, strict=True)
        ]
        found += add(*weighed)
    return linear(attention.out, found)


def near(nearby: Nearby, time_s: float, other: list[Any]) -> Row:
    """What the modality is at the time of one frame."""
    rate = math.log1p(math.exp(float(nearby.decay.detach())))
    weights = [math.exp(-rate * abs(time_s - at)) for _, at in other]
    rows = [norm(nearby.project[1], linear(nearby.project[0], row)) for row, _ in other]
    return add(*([w / sum(weights) * v for v in row] for w, row in zip(weights, rows, strict=True)))


def by_definition(fusion: Any, frames: Tokens, other: Tokens, video: int) -> list[Row]:
    """Real tokens of one video's level."""
    v, m = real(frames, video), real(other, video)
    rows = [row for row, _ in v]
    if not m:
        return rows
    if isinstance(fusion, ConcatFusion):
        pooled = norm(fusion.norm, mean([row for row, _ in m], M))
        return [linear(fusion.project, [*row, *pooled]) for row in rows]
    found = [attended(fusion.attention, frame, m) for frame in v]
    if isinstance(fusion, AddFusion):
        return [add(row, c) for row, c in zip(rows, found, strict=True)]
    if isinstance(fusion, AlignedFusion):
        before, _, direct = fusion.pooled
        pooled = linear(direct, norm(before, mean([row for row, _ in m], M)))
        _, first, _, _, last = fusion.together
        pairs = [[*norm(fusion.norm, row), *near(fusion.nearby, at, m)] for row, at in v]
        together = [linear(last, gelu(linear(first, pair))) for pair in pairs]
        parts = zip(rows, found, together, strict=True)
        return [add(row, c, pooled, both) for row, c, both in parts]
    assert isinstance(fusion, AppendFusion)
    return [*rows, *(norm(fusion.norm, c) for c in found)]


@pytest.mark.parametrize("form", list(EARLY_FORMS))
def test_early_fusion(form: str) -> None:
    fusion = random(EARLY_FORMS[form](D, M, MODEL))
    frames, other = tokens([2, 3, 1], D), tokens([3, 1, 0], M, seed=1)
    level = fusion(frames, other)
    for video in range(3):
        close(level.values[video][level.mask[video]], by_definition(fusion, frames, other, video))

    def call(module: nn.Module, v: Tensor, m: Tensor) -> Tensor:
        given = Tokens(v, frames.mask, frames.time_s), Tokens(m, other.mask, other.time_s)
        made: Tokens = module(*given)
        return made.values[made.mask]

    sound_gradients(fusion, call, [frames.values, other.values])


@pytest.mark.parametrize("mode", list(COMPLETIONS))
def test_completion(mode: str) -> None:
    completion = random(COMPLETIONS[mode](D, M, MODEL, CompletionConfig(mode="predict")))
    frames, other = tokens([2, 3, 1], D), tokens([3, 0, 2], M, seed=1)
    whole: Completed = completion(frames, other)
    instead: list[tuple[Row, float]] = []
    if mode == "token":
        instead = [(completion.row_M.tolist(), sum(at for _, at in real(frames, 1)) / 3)]
    if mode == "predict":
        before, first, _, last = completion.guess

        def guess(row: Row) -> Row:
            return linear(last, gelu(linear(first, norm(before, row))))

        instead = [(guess(row), at) for row, at in real(frames, 1)]
        for video in (0, 2):
            guessed = mean([guess(row) for row, _ in real(frames, video)], M)
            pooled = mean([row for row, _ in real(other, video)], M)
            assert whole.completion_loss is not None
            close(whole.completion_loss[video], 1 - cosine(guessed, pooled))
    for video, rows in enumerate([real(other, 0), instead, real(other, 2)]):
        mask = whole.tokens.mask[video]
        close(whole.tokens.values[video][mask], [row for row, _ in rows])
        close(whole.tokens.time_s[video][mask], [at for _, at in rows])

    def call(module: nn.Module, v: Tensor, m: Tensor) -> Tensor:
        given = Tokens(v, frames.mask, frames.time_s), Tokens(m, other.mask, other.time_s)
        made: Completed = module(*given)
        loss = v.sum() * 0 if made.completion_loss is None else made.completion_loss[:1].sum()
        return torch.cat([made.tokens.values[made.tokens.mask].flatten(), loss[None]])

    sound_gradients(completion, call, [frames.values, other.values])


def cosine(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def test_mean_scoring() -> None:
    queries, videos = tokens([2, 1, 0], D), tokens([3, 0, 1], D, seed=1)
    scores, pooled = mean_score(queries, videos), masked_mean(videos)
    for v in range(3):
        rows = [row for row, _ in real(videos, v)]
        close(pooled[v], mean(rows, D))
        for q in range(3):
            known = real(queries, q) and rows
            expected = cosine(real(queries, q)[0][0], mean(rows, D)) if known else 0.0
            close(scores[q, v], expected)


@pytest.mark.parametrize("rule", list(LATE_FUSIONS))
def test_late_fusion(rule: str) -> None:
    late = random(LATE_FUSIONS[rule](3))
    torch.manual_seed(0)
    late.centre_L.normal_()
    late.deviation_L.uniform_(0.5, 2.0)
    levels, valid = torch.randn(3, 2, 4, dtype=torch.float64), torch.rand(3, 4) > 0.4
    fused = late(levels, valid)
    for q in range(2):
        for v in range(4):
            expected, odds_of_one = 0.0, 0.0
            for n in range(3):
                if valid[n, v]:
                    z = (levels[n, q, v] - late.centre_L[n]) / late.deviation_L[n]
                    slope, bias = float(late.slope_L[n].detach()), float(late.bias_L[n].detach())
                    if isinstance(late, MentionFusion):
                        odds = math.exp(
                            math.exp(slope) * float(z) + float(late.offset_L[n].detach())
                        )
                        expected += math.log1p(odds) + bias
                        alpha_L, added_L = (x.detach() for x in late.mixture)
                        odds_of_one += math.exp(float(alpha_L[n] * z + added_L[n]))
                    else:
                        expected += math.log1p(math.exp(slope)) * float(z) + bias
            if rule == "mention_mixture" and valid[:, v].any():
                expected += math.log(odds_of_one)
            close(fused[q, v], expected)
    sound_gradients(late, lambda module, x: module(x, valid), [levels])
