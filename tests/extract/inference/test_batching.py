"""Rows of several clips in one batch: each clip gets the output that it would get alone."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.errors import ResourceError
from m2hf.extract.inference.batching import DeviceBatches, RowQueue


class _Twice:
    """A network that records the rows of each call, and runs out of memory beyond `capacity`."""

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity = capacity
        self.sizes: list[int] = []

    def __call__(self, rows: Any) -> Any:
        if len(rows) > self.capacity:
            raise torch.OutOfMemoryError("over capacity")
        self.sizes.append(len(rows))
        return rows.reshape(len(rows), -1).float() * 2


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 9), max_size=12),
    size=st.integers(1, 8),
    eager=st.booleans(),
    device=st.sampled_from(["cpu", "mps"]),
)
def test_every_item_gets_its_own_rows_back(
    counts: list[int], size: int, eager: bool, device: str
) -> None:
    network = _Twice()
    queue = RowQueue(DeviceBatches(network, size, "cpu", "x"), size, device)
    rng = np.random.default_rng(0)
    given_rows = {str(i): rng.integers(0, 255, (n, 2, 2), np.uint8) for i, n in enumerate(counts)}
    returned: dict[str, Any] = {}
    for name, rows in given_rows.items():
        queue.add(name, rows)
        while queue.full or (eager and queue.waiting):
            returned |= queue.advance()
    while queue.waiting:
        returned |= queue.advance()
    assert list(returned) == list(given_rows)
    for name, rows in given_rows.items():
        np.testing.assert_array_equal(returned[name], rows.reshape(len(rows), -1) * 2.0)
    if device == "cpu":  # no row is padding, and no batch has rows of two items
        own = [[min(size, n - first) for first in range(0, n, size)] for n in counts]
        assert network.sizes == [batch for batches in own for batch in batches]
        return
    assert set(network.sizes) <= {size}
    if not eager:
        assert len(network.sizes) == -(-sum(counts) // size)


def test_out_of_memory_halves_the_batch_once() -> None:
    network = _Twice(capacity=4)
    batches = DeviceBatches(network, 8, "cpu", "extract.clip")
    rows = np.arange(16, dtype=np.float32).reshape(8, 2)
    for _ in range(2):
        np.testing.assert_array_equal(batches(rows).numpy(), rows * 2)
    assert network.sizes == [4, 4, 4, 4]
    network.capacity = 2
    with pytest.raises(ResourceError, match=r"extract\.clip: out of memory on cpu with 4 rows"):
        batches(rows)


def test_a_failed_batch_stays_in_the_queue_and_can_be_dropped() -> None:
    def fails(rows: Any) -> Any:
        raise RuntimeError("no")

    queue = RowQueue(DeviceBatches(fails, 2, "cpu", "x"), 2, "cpu")
    queue.add("a", np.zeros((3, 2), np.float32))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            queue.advance()
        assert queue.waiting == ("a",)
    assert queue.clear() == ("a",)
    assert not queue.waiting
    assert not queue.full
