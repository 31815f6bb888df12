"""Trained late fusion: availability, standard scores, and what fitting must achieve."""

import numpy as np
import pytest
import torch

from m2hf.fuse.model.calibration import calibrate
from m2hf.fuse.model.contrastive import ContrastiveLoss
from m2hf.fuse.model.late_fusion import LATE_FUSIONS
from m2hf.fuse.scores.metrics import text_to_video

EVERY_RULE = pytest.mark.parametrize("rule", list(LATE_FUSIONS))


def recall(scores: torch.Tensor) -> float:
    matrix = scores.detach().numpy()
    return text_to_video(matrix, np.arange(len(matrix))).recall[1].expected


def levels(
    rng: np.random.Generator, videos: int, missing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A good level, and a noisier one on another scale that is missing for some videos."""
    good = np.eye(videos) + 0.33 * rng.normal(size=(videos, videos))
    other = 40 + 10 * (np.eye(videos) + 0.45 * rng.normal(size=(videos, videos)))
    valid = np.stack([np.ones(videos, bool), rng.random(videos) >= missing])
    other[:, ~valid[1]] = -1.0
    return torch.from_numpy(np.stack([good, other])).float(), torch.from_numpy(valid)


@EVERY_RULE
@pytest.mark.parametrize("missing", [0.0, 0.4, 0.8, 1.0])
def test_fitted_fusion_is_no_worse_than_the_best_level(missing: float, rule: str) -> None:
    rng = np.random.default_rng(5)
    late = LATE_FUSIONS[rule](2)
    scores, valid = levels(rng, 150, missing)
    calibrate(late, scores, valid, torch.eye(150, dtype=torch.bool), ContrastiveLoss())
    scores, valid = levels(rng, 400, missing)
    fused = recall(late(scores, valid))
    assert fused >= recall(scores[0]) - 0.5
    if missing < 0.5:
        assert fused > recall(scores[0]) + 5


@EVERY_RULE
def test_slopes_stay_positive_and_statistics_are_of_available_videos(rule: str) -> None:
    scores, valid = levels(np.random.default_rng(0), 60, 0.5)
    late = LATE_FUSIONS[rule](2)
    calibrate(late, -scores, valid, torch.eye(60, dtype=torch.bool), ContrastiveLoss())
    assert (late.alpha_L > 0).all()
    late.standardise(scores, valid)
    known = scores[1][:, valid[1]]
    assert float(late.centre_L[1]) == pytest.approx(float(known.mean()))
    assert float(late.deviation_L[1]) == pytest.approx(float(known.std()))


@EVERY_RULE
def test_what_no_level_knows_scores_zero_and_a_flat_level_is_harmless(rule: str) -> None:
    late = LATE_FUSIONS[rule](2)
    scores = torch.stack([torch.rand(4, 5), torch.full((4, 5), 0.3)])
    valid = torch.tensor([[True, True, True, True, False]] * 2)
    late.standardise(scores, valid)
    fused = late(scores, valid)
    assert fused.isfinite().all()
    assert not fused[:, 4].any()
    late.standardise(scores, torch.zeros(2, 5, dtype=torch.bool))
    assert late(scores, valid).isfinite().all()


@EVERY_RULE
def test_one_level_keeps_its_order(rule: str) -> None:
    torch.manual_seed(0)
    scores = torch.rand(1, 6, 6)
    late = LATE_FUSIONS[rule](1)
    valid = torch.ones(1, 6, dtype=torch.bool)
    calibrate(late, scores, valid, torch.eye(6, dtype=torch.bool), ContrastiveLoss())
    assert torch.equal(late(scores, valid).argsort(), scores[0].argsort())


@EVERY_RULE
def test_what_a_level_is_worth_is_learned_only_where_some_lack_it(rule: str) -> None:
    """Else the loss is blind to the bias, which must not wander, or a video that lacks the
    level elsewhere would be ranked by rounding errors."""
    for missing, flat in ((0.0, [True, True]), (0.5, [True, False]), (1.0, [True, True])):
        late = LATE_FUSIONS[rule](2)
        scores, valid = levels(np.random.default_rng(1), 80, missing)
        calibrate(late, scores, valid, torch.eye(80, dtype=torch.bool), ContrastiveLoss())
        assert (late.bias_L == 0).tolist() == flat


@EVERY_RULE
def test_a_level_that_nobody_has_changes_nothing_of_the_fit(rule: str) -> None:
    scores, valid = levels(np.random.default_rng(2), 80, 0.3)
    positives, loss = torch.eye(80, dtype=torch.bool), ContrastiveLoss()
    two, three = LATE_FUSIONS[rule](2), LATE_FUSIONS[rule](3)
    calibrate(two, scores, valid, positives, loss)
    nobody = torch.zeros(1, 80, dtype=torch.bool)
    more = torch.cat([scores, -torch.ones(1, 80, 80)])
    calibrate(three, more, torch.cat([valid, nobody]), positives, loss)
    torch.testing.assert_close(three.slope_L[:2], two.slope_L, rtol=0, atol=1e-5)
    torch.testing.assert_close(three.bias_L[:2], two.bias_L, rtol=0, atol=1e-5)


@EVERY_RULE
def test_a_few_captions_say_little_about_what_having_a_level_is_worth(rule: str) -> None:
    """All four captions are of videos with the level, and no other video has it: by the loss alone
    its bias would rise for ever. At most 1 nat a caption speaks for it."""
    scores, valid = levels(np.random.default_rng(6), 20, 0.0)
    valid[1, 4:] = False
    late, loss = LATE_FUSIONS[rule](2), ContrastiveLoss()
    calibrate(late, scores[:, :4], valid, torch.eye(20, dtype=torch.bool)[:4], loss)
    away_L = (late.scale(loss) * (late.bias_L - late.neutral_L)).detach()
    assert 0 < float(away_L[1]) < 4 / 2 + 0.1


@pytest.mark.parametrize("rule", ["affine", "mention"])
def test_the_neutral_bias_adds_nothing_at_the_mean_score(rule: str) -> None:
    scores, valid = levels(np.random.default_rng(3), 40, 0.5)
    late = LATE_FUSIONS[rule](2)
    late.standardise(scores, valid)
    with torch.no_grad():
        late.bias_L.copy_(late.neutral_L)
        mean_LQB = late.centre_L[:, None, None].expand(2, 1, 1)
        everywhere = torch.ones(2, 1, 1, dtype=torch.bool)
        torch.testing.assert_close(late.terms(mean_LQB, everywhere), torch.zeros(2, 1, 1))


@EVERY_RULE
def test_a_fit_does_not_depend_on_the_scale_of_a_level(rule: str) -> None:
    scores, valid = levels(np.random.default_rng(4), 60, 0.5)
    positives, loss = torch.eye(60, dtype=torch.bool), ContrastiveLoss()
    fused = []
    for scale in (0.01, 1.0, 1000.0):
        late = LATE_FUSIONS[rule](2)
        calibrate(late, scores * torch.tensor([1.0, scale])[:, None, None], valid, positives, loss)
        fitted = late(scores * torch.tensor([1.0, scale])[:, None, None], valid)
        fused.append(fitted[:, valid.any(dim=0)].detach())
    torch.testing.assert_close(fused[0], fused[1], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(fused[2], fused[1], rtol=1e-3, atol=1e-2)
