"""Early fusion forms and what stands in for a missing modality."""

from typing import Any

import pytest
import torch

from m2hf.fuse.config import CompletionConfig, FusionConfig, ModelConfig
from m2hf.fuse.model.completion import COMPLETIONS, Completed
from m2hf.fuse.model.early import EARLY_FORMS, ColumnDropout, ConcatFusion
from m2hf.fuse.model.levels import LevelTokens, completion_loss
from m2hf.fuse.model.retriever import M2HF
from m2hf.fuse.model.tokens import Tokens

MODEL = ModelConfig(width=16, heads=2, dropout=0.0)
WIDTHS = {"frames": 8, "captions": 8, "audio": 6, "motion": 6, "text": 8}


def tokens(counts: list[int], width: int, dtype: torch.dtype = torch.float32) -> Tokens:
    n = max(1, *counts)
    values = torch.randn(len(counts), n, width, dtype=dtype)
    mask = torch.arange(n) < torch.tensor(counts)[:, None]
    return Tokens(values, mask, torch.arange(n, dtype=dtype).repeat(len(counts), 1))


@pytest.mark.parametrize("form", list(EARLY_FORMS))
@torch.no_grad()
def test_without_the_modality_it_is_v_exactly(form: str) -> None:
    torch.manual_seed(0)
    frames, other = tokens([3, 2, 1], 8), tokens([0, 4, 0], 6)
    fusion = EARLY_FORMS[form](8, 6, MODEL)
    for parameter in fusion.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    fused = fusion(frames, other)
    for video in (0, 2):
        assert torch.equal(
            fused.values[video][fused.mask[video]], frames.values[video, : 3 - video]
        )
    assert not torch.equal(fused.values[1][fused.mask[1]], frames.values[1, :2])
    assert fused.values.isfinite().all()


@pytest.mark.parametrize("form", ["add", "aligned"])
@torch.no_grad()
def test_it_starts_at_v(form: str) -> None:
    frames, other = tokens([3, 2], 8), tokens([1, 4], 6)
    assert torch.equal(EARLY_FORMS[form](8, 6, MODEL)(frames, other).values, frames.values)


@torch.no_grad()
def test_concat_is_one_linear_map_of_frame_and_pooled_modality() -> None:
    frames, other = tokens([2], 8), tokens([3], 6)
    fusion = ConcatFusion(8, 6, MODEL)
    pooled = other.values[0].mean(dim=0)
    normed = (pooled - pooled.mean()) / (pooled.var(unbiased=False) + 1e-5).sqrt()
    for f in range(2):
        both = torch.cat([frames.values[0, f], normed])
        expected = fusion.project.weight @ both + fusion.project.bias
        torch.testing.assert_close(fusion(frames, other).values[0, f], expected)


def test_dropout_of_columns_is_alike_in_all_rows_of_a_video() -> None:
    torch.manual_seed(0)
    rows = torch.rand(50, 3, 40) + 1
    dropped = ColumnDropout(0.25).train()(rows)
    kept = dropped[:, :1] != 0
    torch.testing.assert_close(dropped, torch.where(kept, rows / 0.75, 0.0))
    assert 0.7 < float(kept.float().mean()) < 0.8
    assert kept.squeeze(1).unique(dim=0).shape == (50, 40)
    assert torch.equal(ColumnDropout(0.25).eval()(rows), rows)


@pytest.mark.parametrize("form", list(EARLY_FORMS))
def test_gradients_of_the_forms(form: str) -> None:
    torch.manual_seed(0)
    fusion = EARLY_FORMS[form](4, 3, ModelConfig(width=4, heads=1, dropout=0.0)).double()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter)
    frames, other = tokens([2, 1], 4, torch.float64), tokens([0, 2], 3, torch.float64)

    def fuse(v: torch.Tensor, m: torch.Tensor) -> Any:
        return fusion(
            Tokens(v, frames.mask, frames.time_s), Tokens(m, other.mask, other.time_s)
        ).values

    inputs = (frames.values.requires_grad_(), other.values.requires_grad_())
    assert torch.autograd.gradcheck(fuse, inputs)


def complete(mode: str, dropout: float = 0.0) -> Any:
    torch.manual_seed(1)
    return COMPLETIONS[mode](8, 6, MODEL, CompletionConfig(dropout=dropout))


@pytest.mark.parametrize("mode", ["token", "predict"])
@torch.no_grad()
def test_what_is_there_is_kept_and_what_is_not_is_replaced(mode: str) -> None:
    frames, other = tokens([3, 2, 0], 8), tokens([2, 0, 0], 6)
    whole: Completed = complete(mode)(frames, other)
    assert whole.present.tolist() == [True, True, False]
    assert torch.equal(whole.tokens.values[0][whole.tokens.mask[0]], other.values[0])
    rows = {"token": 1, "predict": 2}[mode]
    assert whole.tokens.mask.sum(dim=1).tolist() == [2, rows, 0]
    times = whole.tokens.time_s[1][whole.tokens.mask[1]]
    assert times.tolist() == {"token": [0.5], "predict": [0.0, 1.0]}[mode]


def test_fallback_adds_nothing() -> None:
    frames, other = tokens([3, 2], 8), tokens([2, 0], 6)
    whole = complete("fallback", dropout=0.9).train()(frames, other)
    assert whole.tokens is other
    assert whole.present.tolist() == [True, False]


def test_modality_dropout_hides_in_training_only() -> None:
    frames, other = tokens([2] * 400, 8), tokens([3] * 400, 6)
    module = complete("token", dropout=0.25)
    hidden = (module.train()(frames, other).tokens.mask.sum(dim=1) == 1).float().mean()
    assert 0.15 < float(hidden) < 0.35
    assert (module.eval()(frames, other).tokens.mask.sum(dim=1) == 3).all()


@torch.no_grad()
def test_loss_is_one_minus_the_cosine_where_the_modality_is_known() -> None:
    frames, other = tokens([3, 2, 0], 8), tokens([2, 0, 4], 6)
    module = complete("predict")
    whole = module(frames, other)
    assert whole.has_target.tolist() == [True, False, False]
    guess = module.guess(frames.values[0]).mean(dim=0)
    cosine = torch.cosine_similarity(guess, other.values[0, :2].mean(dim=0), dim=0)
    assert float(whole.completion_loss[0]) == pytest.approx(float(1 - cosine), abs=1e-6)


def test_loss_of_a_modality_that_is_missing_everywhere_is_zero() -> None:
    config = FusionConfig(model=MODEL, completion={"mode": "predict"})
    model = M2HF(config, WIDTHS)
    streams = {role: tokens([0, 0], width) for role, width in WIDTHS.items()}
    streams["frames"] = tokens([2, 1], 8)
    (videos,) = model.encode_videos(streams)
    levels = videos.levels
    loss = completion_loss(levels)
    assert loss is not None
    assert float(loss.detach()) == 0.0
    assert completion_loss({"visual": levels["visual"]}) is None


def test_the_loss_of_all_levels_in_loops_and_its_gradients() -> None:
    torch.manual_seed(0)
    one, other = (torch.rand(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    known = [torch.tensor([True, False, True, True]), torch.tensor([False] * 4)]
    item = tokens([1] * 4, 2)

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        levels = {
            name: LevelTokens(item, item.present, item.present, value, where)
            for name, value, where in zip("ab", (a, b), known, strict=True)
        }
        found = completion_loss({**levels, "plain": LevelTokens(item, item.present)})
        assert found is not None
        return found

    expected = sum(float(one[i].detach()) for i in (0, 2, 3)) / 3
    assert float(loss(one, other).detach()) == pytest.approx(expected)
    assert torch.autograd.gradcheck(loss, (one, other))
