"""The mean of weights over steps, against its definition."""

from typing import Any

import numpy as np
import pytest
import torch

from m2hf.fuse.config import FusionConfig
from m2hf.fuse.model.retriever import M2HF
from m2hf.fuse.training.average import WeightAverage

WIDTHS = {"frames": 6, "captions": 5, "text": 4}
CONFIG = FusionConfig.model_validate(
    {
        "project": ["frames", "text"],
        "levels": {name: {"enabled": False} for name in ("audio_visual", "motion_visual")},
        "model": {"width": 8, "heads": 2},
    }
)


def walk(share: float, steps: int) -> tuple[list[Any], WeightAverage]:
    """The weights of the frames' projection after each update, the first being the start."""
    torch.manual_seed(0)
    network = M2HF(CONFIG, WIDTHS)
    average = WeightAverage(network, share)
    weight = network.adapters["frames"].linear.weight
    seen = []
    for step in range(steps):
        with torch.no_grad():
            weight.add_(torch.randn_like(weight))
            network.late.centre_L.fill_(step)
        average.update_parameters(network)
        seen.append(weight.detach().double().numpy().copy())
    return seen, average


def mean(average: WeightAverage) -> Any:
    weight = average.network.adapters["frames"].linear.weight
    return weight.detach().double().numpy()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_each_step_has_the_weight_of_the_definition(share: float) -> None:
    seen, average = walk(share, 30)
    weights = np.zeros(30)
    weights[0] = 1
    for step in range(1, 30):
        fresh = 1 / (step * share + 1)
        weights *= 1 - fresh
        weights[step] = fresh
    assert weights.sum() == pytest.approx(1)
    expected = np.tensordot(weights, np.array(seen), axes=1)
    np.testing.assert_allclose(mean(average), expected, atol=1e-5)


def test_a_share_of_one_is_the_mean_and_of_none_the_last_weights() -> None:
    seen, average = walk(1.0, 12)
    np.testing.assert_allclose(mean(average), np.mean(seen, axis=0), atol=1e-5)
    seen, average = walk(0.0, 12)
    np.testing.assert_array_equal(mean(average), seen[-1])


def test_statistics_are_those_of_the_network_in_training() -> None:
    _, average = walk(1.0, 5)
    assert average.network.late.centre_L.tolist() == [4.0, 4.0]
