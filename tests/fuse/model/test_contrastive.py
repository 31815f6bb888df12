"""InfoNCE against its definition, and where it must be silent."""

import math

import pytest
import torch

from m2hf.fuse.model.contrastive import ContrastiveLoss, info_nce


def by_definition(logits: torch.Tensor, positives: torch.Tensor) -> float:
    """Each pair against what is no right answer, in both directions."""
    total, pairs = 0.0, positives.nonzero().tolist()
    for q, v in pairs:
        others_v = [float(logits[q, j]) for j in range(logits.shape[1]) if not positives[q, j]]
        others_q = [float(logits[i, v]) for i in range(logits.shape[0]) if not positives[i, v]]
        for others in (others_v, others_q):
            own = math.exp(float(logits[q, v]))
            total -= math.log(own / (own + sum(map(math.exp, others)))) / 2
    return total / len(pairs)


def test_definition_with_two_captions_of_one_video() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 3)
    positives = torch.tensor([0, 0, 1, 2, 2])[:, None] == torch.arange(3)
    assert float(info_nce(logits, positives)) == pytest.approx(by_definition(logits, positives))


def test_captions_of_one_video_do_not_repel_each_other() -> None:
    positives = torch.tensor([[True, False], [True, False], [False, True]])
    logits = torch.zeros(3, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(info_nce(logits, positives), logits)
    assert (gradient[positives] < 0).all()
    assert (gradient[~positives] > 0).all()


def test_without_negatives_there_is_nothing_to_learn() -> None:
    logits = torch.tensor([[3.0], [5.0]], requires_grad=True)
    loss = info_nce(logits, torch.ones(2, 1, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0.0
    assert gradient.tolist() == [[0.0], [0.0]]


def test_a_video_that_is_not_valid_is_no_candidate() -> None:
    loss = ContrastiveLoss()
    torch.manual_seed(0)
    scores, positives = torch.rand(3, 3), torch.eye(3, dtype=torch.bool)
    valid = torch.tensor([True, False, True])
    expected = loss(scores[:, valid], positives[:, valid], torch.ones(2, dtype=torch.bool))
    assert torch.equal(loss(scores, positives, valid), expected)
    nothing = loss(scores.requires_grad_(), positives, torch.zeros(3, dtype=torch.bool))
    torch.autograd.backward(nothing)
    assert nothing.item() == 0.0


def test_temperature_starts_at_a_twentieth_and_is_bounded() -> None:
    loss = ContrastiveLoss()
    assert loss.scale.item() == pytest.approx(20.0)
    with torch.no_grad():
        loss.log_scale.fill_(50.0)
    assert loss.scale.item() == pytest.approx(100.0)


def test_gradients_in_scores_and_temperature() -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    positives = torch.tensor([0, 0, 1, 2, 3])[:, None] == torch.arange(4)
    valid = torch.tensor([True, True, True, False])
    loss = ContrastiveLoss().double()
    for scale in (1.5, 1000.0):  # free, and at its bound
        start = torch.tensor(math.log(scale), dtype=torch.float64, requires_grad=True)

        def value(x: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
            given = {"log_scale": log_scale}
            found: torch.Tensor = torch.func.functional_call(loss, given, (x, positives, valid))
            return found

        assert torch.autograd.gradcheck(value, (scores, start))
        expected = by_definition(min(scale, 100) * scores.detach()[:, :3], positives[:, :3])
        assert float(value(scores, start).detach()) == pytest.approx(expected)
