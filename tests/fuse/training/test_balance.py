"""Balance losses against their definitions, and where they must be silent."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from m2hf.fuse.config import BalanceConfig, FusionConfig
from m2hf.fuse.model.contrastive import info_nce
from m2hf.fuse.model.late_fusion import LATE_FUSIONS, AffineFusion
from m2hf.fuse.model.retriever import M2HF
from m2hf.fuse.training.balance import (
    Balance,
    Contributions,
    PairLosses,
    contribution_loss,
    contributions,
    mixture_loss,
    scale_gradients,
)
from m2hf.fuse.training.run import train

SUMS = ("none", "contribution", "dwa", "uncertainty", "gradient")
FORMS = (*SUMS, "mixture")
VALUES = torch.tensor([[3.0, 1.0, 0.5], [1.0, 2.0, 9.0], [-1.0, 0.0, 9.0]])
KNOWN = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def pairs_of(losses_L: torch.Tensor, seen_L: torch.Tensor) -> PairLosses:
    """One pair, of which each level has this loss in both directions."""
    return PairLosses(losses_L.expand(2, -1).unsqueeze(2), seen_L.unsqueeze(1))


def test_contribution_by_definition() -> None:
    total = 0.0
    for pair in range(2):  # the third pair has one level, and says nothing
        raw = [softplus(float(VALUES[level, pair])) for level in range(3) if KNOWN[level, pair]]
        uniform = 1 / len(raw)
        total += sum(uniform * math.log(uniform / (r / sum(raw))) for r in raw) / 2
    loss = contribution_loss(Contributions(VALUES, KNOWN))
    assert float(loss) == pytest.approx(total, rel=1e-5)


def test_the_strongest_is_held_and_the_others_are_lifted() -> None:
    values = VALUES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(contribution_loss(Contributions(values, KNOWN)), values)
    assert gradient[0, 0] == 0
    assert gradient[1, 1] == 0
    assert gradient[2, 0] < 0
    assert gradient[0, 1] < 0
    assert not gradient[:, 2].any()


def test_one_level_alone_gives_zero() -> None:
    values = torch.randn(1, 5, requires_grad=True)
    given = Contributions(values, torch.ones(1, 5, dtype=torch.bool))
    loss = contribution_loss(given)
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert values.grad is not None
    assert not values.grad.any()
    assert Balance(1, BalanceConfig(form="gradient")).gradient_scales(given).tolist() == [1.0]
    assert Balance(1, BalanceConfig(form="dwa")).dwa_weights().tolist() == [1.0]


def test_contributions_are_above_the_mean_candidate_and_leave_slopes_alone() -> None:
    torch.manual_seed(0)
    late = AffineFusion(2)
    levels = torch.randn(2, 3, 4, requires_grad=True)
    valid = torch.tensor([[True] * 4, [True, False, True, True]])
    positives = torch.eye(3, 4, dtype=torch.bool)
    given = contributions(levels, valid, positives, late, torch.tensor(20.0))
    slope = 20 * float(late.alpha_L[1].detach())
    mean = levels[1, 0, valid[1]].mean()
    torch.testing.assert_close(given.values[1, 0], slope * (levels[1, 0, 0] - mean))
    assert given.available.tolist() == [[True] * 3, [True, False, True]]
    torch.autograd.backward(contribution_loss(given))
    assert late.slope_L.grad is None
    assert levels.grad is not None
    assert not levels.grad[1, :, 1].any()


def test_gradcheck_of_the_contribution_loss() -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 4, dtype=torch.float64)
    known = torch.rand(3, 4) > 0.3
    held = values.masked_fill(~known, -torch.inf).argmax(dim=0)
    free = torch.arange(3)[:, None] != held

    def loss(x: torch.Tensor) -> torch.Tensor:
        return contribution_loss(Contributions(torch.where(free, x, values), known))

    assert torch.autograd.gradcheck(loss, values.clone().requires_grad_())


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores (3, 4, 5), validity (3, 5) and positives (4, 5), the last level known nowhere."""
    torch.manual_seed(seed)
    valid = torch.rand(3, 5) > 0.3
    valid[2] = False
    positives = torch.tensor([0, 0, 2, 4])[:, None] == torch.arange(5)
    return torch.randn(3, 4, 5, dtype=torch.float64), valid, positives


def part(x: torch.Tensor, valid: torch.Tensor, late: Any, level: int, q: int, v: int) -> float:
    """The share of a level in a mixture of equal slopes and offsets, times the mixture's log."""
    known = [n for n in range(3) if valid[n, v]]
    odds = {n: math.exp(float(x[n, q, v] / late.deviation_L[n])) for n in known}
    return odds.get(level, 0.0) / sum(odds.values()) * math.log(sum(odds.values())) if odds else 0.0


@pytest.mark.parametrize("rule", list(LATE_FUSIONS))
@pytest.mark.parametrize("seed", range(3))
def test_contributions_in_loops(seed: int, rule: str) -> None:
    scores, valid, positives = drawn(seed)
    late = LATE_FUSIONS[rule](3).double()
    with torch.no_grad():
        late.slope_L.normal_()
    late.deviation_L.uniform_(0.5, 2.0)
    given = contributions(scores, valid, positives, late, torch.tensor(7.0))
    shares = [0.0] * 3
    pairs = positives.nonzero().tolist()
    for pair, (q, v) in enumerate(pairs):
        raw = []
        for level in range(3):
            alpha = float(late.alpha_L[level].detach() / late.deviation_L[level])
            odds = [alpha * float(score) for score in scores[level, q]]
            terms = odds if rule == "affine" else [softplus(x + 2) for x in odds]
            if rule == "mention_mixture":
                terms = [x + part(scores, valid, late, level, q, b) for b, x in enumerate(terms)]
            known = [terms[b] for b in range(5) if valid[level, b]]
            mean = sum(known) / max(1, len(known))
            expected = 7 * (terms[v] - mean)
            assert float(given.values[level, pair]) == pytest.approx(expected, abs=1e-9)
            assert bool(given.available[level, pair]) == bool(valid[level, v])
            raw.append(softplus(expected) if valid[level, v] else 0.0)
        for level in range(3):
            shares[level] += raw[level] / max(sum(raw), 1e-6)
    counts = [sum(bool(valid[level, v]) for _, v in pairs) for level in range(3)]
    means = [share / max(1, count) for share, count in zip(shares, counts, strict=True)]
    assert given.mean_share.tolist() == pytest.approx(means)
    scales = Balance(3, BalanceConfig(form="gradient", gamma=0.7)).gradient_scales(given)
    seen = sum(count > 0 for count in counts)
    for level in range(3):
        others = (sum(means) - means[level]) / max(1, seen - 1)
        ahead = max(0.0, means[level] / max(others, 1e-6) - 1) if seen > 1 else 0.0
        assert float(scales[level]) == pytest.approx(1 - math.tanh(0.7 * ahead))


@pytest.mark.parametrize("form", SUMS)
def test_what_each_form_adds_in_loops_and_its_gradients(form: Any) -> None:
    torch.manual_seed(1)
    balance = Balance(3, BalanceConfig(form=form, gamma=0.7)).double()
    for epoch in ([4.0, 2.0, 3.0], [1.0, 1.9, 0.0]):
        balance.end_epoch(torch.tensor(epoch))
    losses = torch.tensor([3.0, 5.0, 2.0], dtype=torch.float64, requires_grad=True)
    seen = torch.tensor([True, True, False])
    values = torch.randn(3, 4, dtype=torch.float64)
    known = torch.tensor([[True] * 4, [True, False, True, True], [False] * 4])
    spread = torch.tensor([0.5, -0.2, 7.0], dtype=torch.float64, requires_grad=True)

    def added(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        given = {"log_variance_L": s} if form == "uncertainty" else {}
        inputs = (pairs_of(x, seen), Contributions(values, known), 0.1)
        found: torch.Tensor = torch.func.functional_call(balance, given, inputs)
        return found

    expected = 0.0
    fall = [math.exp(1 / 4 / 2), math.exp(1.9 / 2 / 2)]
    for level in range(2):
        loss, s = float(losses[level].detach()), float(spread[level].detach())
        expected += 0.1 * loss
        if form == "dwa":
            expected += 0.1 * 0.7 * (2 * fall[level] / sum(fall) - 1) * loss
        if form == "uncertainty":
            expected += 0.1 * 0.7 * ((math.exp(-s) - 1) * loss + s)
    if form == "contribution":
        expected += 0.7 * float(contribution_loss(Contributions(values, known)))
    assert float(added(losses, spread).detach()) == pytest.approx(expected)
    assert torch.autograd.gradcheck(added, (losses, spread))


@pytest.mark.parametrize("form", SUMS)
def test_gamma_zero_is_no_balance(form: Any) -> None:
    losses, seen = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, True, False])
    balance = Balance(3, BalanceConfig(form=form, gamma=0.0))
    balance.end_epoch(torch.tensor([4.0, 2.0, 0.0]))
    balance.end_epoch(torch.tensor([1.0, 1.9, 0.0]))
    value = balance(pairs_of(losses, seen), Contributions(VALUES, KNOWN), 0.1)
    assert float(value.detach()) == pytest.approx(0.3)
    assert balance.gradient_scales(Contributions(VALUES, KNOWN)).tolist() == [1.0] * 3


def test_dynamic_weights_favour_what_falls_slowly_and_leave_out_what_was_not_seen() -> None:
    balance = Balance(3, BalanceConfig(form="dwa"))
    assert balance.dwa_weights().tolist() == [1.0] * 3
    balance.end_epoch(torch.tensor([4.0, 2.0, 0.0]))
    assert balance.dwa_weights().tolist() == [1.0] * 3
    balance.end_epoch(torch.tensor([1.0, 1.0, 0.0]))
    fast, slow = math.exp(0.25 / 2), math.exp(0.5 / 2)
    expected = [2 * fast / (fast + slow), 2 * slow / (fast + slow), 1.0]
    assert balance.dwa_weights().tolist() == pytest.approx(expected)


def test_uncertainty_by_definition() -> None:
    balance = Balance(2, BalanceConfig(form="uncertainty"))
    with torch.no_grad():
        balance.log_variance_L.copy_(torch.tensor([0.5, 7.0]))
    losses, seen = torch.tensor([3.0, 5.0]), torch.tensor([True, False])
    value = balance(pairs_of(losses, seen), Contributions(VALUES[:2], KNOWN[:2]), 1.0)
    assert float(value.detach()) == pytest.approx(3 * math.exp(-0.5) + 0.5)


def test_gradient_form_slows_the_level_that_is_ahead() -> None:
    balance = Balance(3, BalanceConfig(form="gradient"))
    ahead = torch.tensor([[4.0], [1.0], [1.0]])
    scales = balance.gradient_scales(Contributions(ahead, torch.ones(3, 1, dtype=torch.bool)))
    ratio = softplus(4.0) / softplus(1.0)
    assert scales.tolist() == pytest.approx([1 - math.tanh(ratio - 1), 1.0, 1.0], abs=1e-6)


def of_pair(x: Any, known: Any, level: int, q: int, v: int, negatives: Any) -> float:
    """-log of the probability that a level gives a pair against the negatives that it knows."""
    others = [float(x[level, i, j]) for i, j in negatives if known[level, j]]
    return math.log1p(sum(math.exp(other - float(x[level, q, v])) for other in others))


@pytest.mark.parametrize("seed", range(5))
def test_mixture_in_loops_and_its_gradients(seed: int) -> None:
    logits, valid, positives = drawn(seed)
    total, count, alone = 0.0, 0, [0.0] * 3
    for q, v in positives.nonzero().tolist():
        row = [(q, j) for j in range(5) if not positives[q, j]]
        column = [(i, v) for i in range(4) if not positives[i, v]]
        levels = [level for level in range(3) if valid[level, v]]
        for negatives in (row, column):
            losses = [of_pair(logits, valid, level, q, v, negatives) for level in levels]
            if levels:
                total -= math.log(sum(math.exp(-loss) for loss in losses) / len(losses))
                count += 1
            for level, loss in zip(levels, losses, strict=True):
                alone[level] += loss
    pairs = PairLosses.of(logits, valid, positives)
    known = [sum(bool(valid[level, v]) for v in (0, 0, 2, 4)) for level in range(3)]
    assert pairs.seen_L.tolist() == [n > 0 for n in known]
    means = [loss / max(1, 2 * n) for loss, n in zip(alone, known, strict=True)]
    assert pairs.mean_L.tolist() == pytest.approx(means)
    assert float(mixture_loss(pairs)) == pytest.approx(total / count)
    added = Balance(3, BalanceConfig(form="mixture"))(pairs, None, 0.3)
    assert float(added) == pytest.approx(0.3 * sum(n > 0 for n in known) * total / count)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return mixture_loss(PairLosses.of(x, valid, positives))

    assert torch.autograd.gradcheck(loss, logits.clone().requires_grad_())


def test_a_mixture_of_one_level_is_its_contrastive_loss() -> None:
    logits, _, positives = drawn(0)
    one, everywhere = logits[:1], torch.ones(1, 5, dtype=torch.bool)
    value = mixture_loss(PairLosses.of(one, everywhere, positives))
    torch.testing.assert_close(value, info_nce(one[0], positives))
    valid = torch.tensor([[True, True, False, True, True]])
    value = mixture_loss(PairLosses.of(one, valid, positives))
    torch.testing.assert_close(value, info_nce(one[0][:, valid[0]], positives[:, valid[0]]))


def test_a_level_without_samples_changes_no_mixture_whatever_its_scores() -> None:
    logits, valid, positives = drawn(1)
    balance = Balance(3, BalanceConfig(form="mixture"))
    expected = balance(PairLosses.of(logits[:2], valid[:2], positives), None, 0.3)
    for nonsense in (1e30, -1e30):
        free = logits.clone().requires_grad_()
        given = free.masked_fill(~valid.unsqueeze(1), nonsense)
        value = balance(PairLosses.of(given, valid, positives), None, 0.3)
        torch.testing.assert_close(value, expected)
        (gradient,) = torch.autograd.grad(value, free)
        assert gradient.isfinite().all()
        assert not gradient[2].any()
    nobody = torch.zeros_like(valid)
    free = logits.clone().requires_grad_()
    value = balance(PairLosses.of(free, nobody, positives), None, 0.3)
    (gradient,) = torch.autograd.grad(value, free)
    assert (float(value.detach()), bool(gradient.any())) == (0.0, False)


def test_a_mixture_trains_the_level_that_can_answer_and_spares_the_other() -> None:
    """The sum of the levels' losses pulls most at the level that is furthest from the answer."""
    logits = torch.zeros(2, 4, 4, dtype=torch.float64)
    logits[0].fill_diagonal_(4.0)
    logits[1].fill_diagonal_(-4.0)
    logits.requires_grad_()
    pairs = PairLosses.of(logits, torch.ones(2, 4, dtype=torch.bool), torch.eye(4) > 0)
    (mixed,) = torch.autograd.grad(mixture_loss(pairs), logits, retain_graph=True)
    (summed,) = torch.autograd.grad(pairs.mean_L.sum(), logits)
    assert mixed[0].norm() > 5 * mixed[1].norm()
    assert summed[1].norm() > 10 * summed[0].norm()


def test_gradients_of_other_levels_are_left(config: FusionConfig) -> None:
    own = config.model.model_copy(update={"own_captions": True})
    config = config.model_copy(update={"model": own})
    widths = {"frames": 16, "captions": 16, "audio": 12, "motion": 10, "text": 16}
    model = M2HF(config, widths)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    scale_gradients(model, config.active_levels, torch.tensor([1.0, 0.5, 1.0, 0.25]))
    for name, parameter in model.named_parameters():
        half = name.startswith(("levels.early.audio", "levels.captions.audio"))
        quarter = name.startswith(("adapters.text", "levels.captions.text"))
        assert parameter.grad is not None
        assert float(parameter.grad.mean()) == (0.5 if half else 0.25 if quarter else 1.0), name


@pytest.mark.parametrize("form", FORMS)
def test_it_trains_and_logs(corpus: Any, short: FusionConfig, tmp_path: Path, form: Any) -> None:
    config = short.model_copy(update={"balance": BalanceConfig(form=form)})
    train(corpus.manifest, corpus.store, tmp_path, config)
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for what in ("share", "gradient"):
        assert set(log[1][what]) == set(config.active_levels)
        assert all(value > 0 for value in log[1][what].values())
    assert "captions_per_s" not in log[1]


def test_a_level_without_samples_counts_nowhere(
    silent: Any, short: FusionConfig, tmp_path: Path
) -> None:
    config = short.model_copy(update={"balance": BalanceConfig(form="contribution")})
    train(silent.manifest, silent.store, tmp_path, config)
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [log[1][what]["text"] for what in ("loss", "share", "gradient")] == [0, 0, 0]
