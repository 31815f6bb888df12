"""Runs a network on batches of rows, from several clips.

B rows of any shape go in, (B, D) come out. A row's output must not depend on which other clips
are extracted, and a network rounds differently at another batch size, but not with other rows in
a batch of the same size. So on a CPU, which gains nothing from large batches, each clip has
batches of its own; on other devices the batches of all clips have one size, and the last one is
filled up with zeros.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import ResourceError
from m2hf.extract.inference.clock import CLOCK

FloatRows = NDArray[np.float32]


class DeviceBatches:
    """Runs `forward` on batches of at most `size` rows on `device`.

    When device memory runs out the size is halved, once and for good; the second time is a
    ResourceError, which blames `name`. On a CUDA device rows are copied from pinned memory and
    calls are asynchronous: the returned tensor may be still to be computed.
    """

    def __init__(self, forward: Callable[[Any], Any], size: int, device: str, name: str) -> None:
        self._forward = forward
        self._size = size
        self._device = device
        self._name = name
        self._halved = False

    def __call__(self, rows: NDArray[Any]) -> Any:
        """(B, D) float32 tensor on the device."""
        import torch

        try:
            firsts = range(0, len(rows), self._size)
            return torch.cat([self._run(rows[first : first + self._size]) for first in firsts])
        except torch.OutOfMemoryError as error:
            if self._halved or self._size == 1:
                raise ResourceError(
                    f"{self._name}: out of memory on {self._device} with {self._size} rows at "
                    "once; lower its batch, or use fewer workers"
                ) from error
        self._halved, self._size = True, self._size // 2
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()
        return self(rows)

    def _run(self, rows: NDArray[Any]) -> Any:
        import torch

        batch = torch.from_numpy(np.ascontiguousarray(rows))
        if self._device.startswith("cuda"):
            batch = batch.pin_memory()
        with torch.inference_mode(), CLOCK.running(self._device):
            return self._forward(batch.to(self._device, non_blocking=True)).float()


@dataclass(eq=False)
class _Item:
    """The state of one clip's rows in the queue."""

    name: str
    total: int
    sent: int = 0
    outputs: list[FloatRows] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return sum(map(len, self.outputs)) == self.total


@dataclass(frozen=True, eq=False)
class _InFlight:
    """A batch that was sent to the network: how many rows of which items, and its output."""

    counts: Sequence[tuple[_Item, int]]
    output: Any
    ready: Any  # a CUDA event, or None where the output is complete


class RowQueue:
    """Rows of several items, sent to a network in batches of `size`; on a CPU an item's last batch
    is smaller.

    On a CUDA device one batch is in flight while the next one is filled.
    """

    def __init__(self, network: DeviceBatches, size: int, device: str) -> None:
        self._network = network
        self._size = size
        self._shared = device != "cpu"
        self._most_in_flight = 1 if device.startswith("cuda") else 0
        self._rows: deque[NDArray[Any]] = deque()
        self._items: deque[_Item] = deque()
        self._in_flight: deque[_InFlight] = deque()

    @property
    def full(self) -> bool:
        """Whether a batch can be sent without padding."""
        return len(self._rows) >= (self._size if self._shared else 1)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Names of the items that were added and not yet returned by `advance`."""
        return tuple(item.name for item in self._items)

    def add(self, name: str, rows: NDArray[Any]) -> None:
        """Queue an item: `rows` (N, ...), N at least 1, of one shape and dtype for all items."""
        self._items.append(_Item(name, len(rows)))
        self._rows.extend(rows)

    def advance(self) -> dict[str, FloatRows]:
        """Send a batch, if any rows are left, and return (N, D) by name of each completed item.

        If the network fails, the queue is left as it was.
        """
        if self._rows:
            self._send()
        finished: dict[str, FloatRows] = {}
        while self._in_flight and (len(self._in_flight) > self._most_in_flight or not self._rows):
            self._collect()
        while self._items and self._items[0].complete:
            item = self._items.popleft()
            finished[item.name] = np.concatenate(item.outputs)
        return finished

    def clear(self) -> tuple[str, ...]:
        """Empty the queue; returns the names of the items dropped."""
        dropped = self.waiting
        for queue in (self._rows, self._items, self._in_flight):
            queue.clear()
        return dropped

    def _send(self) -> None:
        first = self._rows[0]
        if self._shared:
            count, length = min(self._size, len(self._rows)), self._size
        else:
            left_of_item = next(i.total - i.sent for i in self._items if i.sent < i.total)
            count = length = min(self._size, left_of_item)
        batch = np.zeros((length, *first.shape), first.dtype)
        for i in range(count):
            batch[i] = self._rows[i]
        output, ready = _to_host(self._network(batch))
        counts: list[tuple[_Item, int]] = []
        left = count
        for item in self._items:
            taken = min(left, item.total - item.sent)
            if taken:
                counts.append((item, taken))
                item.sent += taken
                left -= taken
        for _ in range(count):
            self._rows.popleft()
        self._in_flight.append(_InFlight(counts, output, ready))

    def _collect(self) -> None:
        batch = self._in_flight.popleft()
        if batch.ready is not None:
            batch.ready.synchronize()
        rows, at = batch.output.numpy(), 0
        for item, count in batch.counts:
            item.outputs.append(rows[at : at + count].copy())
            at += count


def _to_host(output: Any) -> tuple[Any, Any]:
    """The tensor in host memory, and the CUDA event that completes the copy (None: complete)."""
    import torch

    if output.device.type != "cuda":
        return output.cpu(), None
    host = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
    host.copy_(output, non_blocking=True)
    cuda: Any = torch.cuda
    ready = cuda.Event()
    ready.record()
    return host, ready
