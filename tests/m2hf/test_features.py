"""Features: empty ones need a reason, and shapes and times that contradict are refused."""

import numpy as np
import pytest

from m2hf.features import Features, Status


def test_features_are_empty_only_for_a_reason() -> None:
    empty = Features.empty("no audio stream", 4)
    assert empty.status is Status.EMPTY
    assert empty.values.shape == (0, 4)
    with pytest.raises(ValueError, match="need a reason"):
        Features(np.zeros((0, 4)), np.zeros(0), np.zeros(0))


@pytest.mark.parametrize(
    ("values", "start", "end", "message"),
    [
        (np.zeros(3), np.zeros(3), np.zeros(3), "expected"),
        (np.zeros((2, 3)), np.zeros(3), np.zeros(3), "start_s"),
        (np.full((1, 3), np.nan), np.zeros(1), np.zeros(1), "not finite"),
        (np.zeros((1, 3)), np.ones(1), np.zeros(1), "times"),
        (np.zeros((1, 3)), -np.ones(1), np.zeros(1), "times"),
    ],
)
def test_features_that_contradict_themselves_are_refused(
    values: np.ndarray, start: np.ndarray, end: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Features(values, start, end)
