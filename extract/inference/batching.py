"""Rows through a network, a batch at a time: on which device, and of how many clips.

B rows of any shape go in, (B, D) come out. A row's output must not depend on its neighbours, or
bytes would depend on what else was to be done; so the rows of several clips always fill a batch
of one size, the last one with zeros (a network rounds differently at another batch size).
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

    Out of device memory the size is halved, once for all; the second time is a ResourceError.
    On a CUDA device rows travel from pinned memory and nothing waits for the network: the result
    is a tensor still to be computed.
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
            parts = range(0, len(rows), self._size)
            return torch.cat([self._run(rows[first : first + self._size]) for first in parts])
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

        given = torch.from_numpy(np.ascontiguousarray(rows))
        if self._device.startswith("cuda"):
            given = given.pin_memory()
        with torch.inference_mode(), CLOCK.running(self._device):
            return self._forward(given.to(self._device, non_blocking=True)).float()


@dataclass(eq=False)
class _Item:
    """A clip's rows in the queue: how many are still to be sent, and what came back."""

    name: str
    total: int
    sent: int = 0
    done: list[FloatRows] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return sum(map(len, self.done)) == self.total


@dataclass(frozen=True, eq=False)
class _Sent:
    """A batch on its way: which items' rows are in it, and where the output will be."""

    counts: Sequence[tuple[_Item, int]]
    output: Any
    ready: Any  # a CUDA event, or None where the output is there


class RowQueue:
    """Rows of several items, sent as full batches of `size`; one batch may be on its way."""

    def __init__(self, network: DeviceBatches, size: int, device: str) -> None:
        self._network = network
        self._size = size
        self._ahead = 1 if device.startswith("cuda") else 0
        self._rows: deque[NDArray[Any]] = deque()
        self._items: deque[_Item] = deque()
        self._sent: deque[_Sent] = deque()

    @property
    def full(self) -> bool:
        """Whether a batch can be sent without padding."""
        return len(self._rows) >= self._size

    @property
    def waiting(self) -> tuple[str, ...]:
        """Items that were added and have not come back."""
        return tuple(item.name for item in self._items)

    def add(self, name: str, rows: NDArray[Any]) -> None:
        """`rows` (N, ...), N at least 1, of one shape and dtype for all items."""
        self._items.append(_Item(name, len(rows)))
        self._rows.extend(rows)

    def advance(self) -> dict[str, FloatRows]:
        """Send a batch, if there are rows left, and give (N, D) of each item that came back.

        What fails leaves the queue as it was.
        """
        if self._rows:
            self._send()
        finished: dict[str, FloatRows] = {}
        while self._sent and (len(self._sent) > self._ahead or not self._rows):
            self._collect()
        while self._items and self._items[0].complete:
            item = self._items.popleft()
            finished[item.name] = np.concatenate(item.done)
        return finished

    def clear(self) -> tuple[str, ...]:
        """Drop all that is in the queue; whose it was."""
        dropped = self.waiting
        for queue in (self._rows, self._items, self._sent):
            queue.clear()
        return dropped

    def _send(self) -> None:
        count = min(self._size, len(self._rows))
        first = self._rows[0]
        batch = np.zeros((self._size, *first.shape), first.dtype)
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
        self._sent.append(_Sent(counts, output, ready))

    def _collect(self) -> None:
        sent = self._sent.popleft()
        if sent.ready is not None:
            sent.ready.synchronize()
        rows, at = sent.output.numpy(), 0
        for item, count in sent.counts:
            item.done.append(rows[at : at + count].copy())
            at += count


def _to_host(output: Any) -> tuple[Any, Any]:
    """The tensor in host memory, and the event after which it is there (None: it is)."""
    import torch

    if output.device.type != "cuda":
        return output.cpu(), None
    host = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
    host.copy_(output, non_blocking=True)
    cuda: Any = torch.cuda
    ready = cuda.Event()
    ready.record()
    return host, ready
