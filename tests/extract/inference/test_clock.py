"""The clock counts a model's computation once, also where it fails."""

import time

import pytest
import torch

from m2hf.extract.inference.clock import ForwardClock


class _Slow(torch.nn.Module):
    def __init__(self, seconds: float, inner: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.seconds = seconds
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        if self.inner is None and x.sum() < 0:
            raise ValueError("negative")
        return x if self.inner is None else self.inner(x)  # type: ignore[no-any-return]


def test_a_model_inside_another_counts_once() -> None:
    clock = ForwardClock()
    inner = clock.watch(_Slow(0.02))
    outer = clock.watch(_Slow(0.02, inner))
    began = time.perf_counter()
    with clock.running():
        outer(torch.ones(1))
    inner(torch.ones(1))
    took = time.perf_counter() - began
    assert 0.06 <= clock.take() <= took
    assert clock.take() == 0.0


def test_a_failed_call_ends_its_time() -> None:
    clock = ForwardClock()
    model = clock.watch(_Slow(0.01))
    with pytest.raises(ValueError, match="negative"):
        model(-torch.ones(1))
    time.sleep(1.0)  # outside of any model
    model(torch.ones(1))
    assert 0.02 <= clock.take() < 1.0
