"""Times the computation of models, so that a run can report its overhead next to it.

A process has one clock, since it runs one model at a time. On a CUDA device, time is measured
between two events on the device, without synchronising.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ForwardClock:
    """Sums the time inside `running`; where a model calls another one, time counts once."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._depth = 0
        self._pending: deque[tuple[Any, Any]] = deque()

    @contextmanager
    def running(self, device: str = "cpu") -> Iterator[None]:
        """Context whose body is a model's computation on `device`."""
        began = self._enter(device)
        try:
            yield
        finally:
            self._leave(began, device)

    def watch(self, module: Any, device: str = "cpu") -> Any:
        """Time each call of a torch module, where a library makes the call; returns the module."""
        began: list[Any] = []
        module.register_forward_pre_hook(lambda *_: began.append(self._enter(device)))
        module.register_forward_hook(lambda *_: self._leave(began.pop(), device), always_call=True)
        return module

    def take(self) -> float:
        """Seconds since the last call, without computation that a device has yet to finish."""
        while self._pending and self._pending[0][1].query():
            first, last = self._pending.popleft()
            self._seconds += first.elapsed_time(last) / 1000
        taken, self._seconds = self._seconds, 0.0
        return taken

    def _enter(self, device: str) -> Any:
        self._depth += 1
        return _now(device) if self._depth == 1 else None

    def _leave(self, began: Any, device: str) -> None:
        self._depth -= 1
        if self._depth:
            return
        if device.startswith("cuda"):
            self._pending.append((began, _now(device)))
        else:
            self._seconds += time.perf_counter() - began


class Clocked:
    """Proxy of an object from a C++ library that times its methods `names` on the CLOCK."""

    def __init__(self, inner: Any, *names: str) -> None:
        self._inner = inner
        self._names = names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found

        def clocked(*arguments: Any, **keywords: Any) -> Any:
            with CLOCK.running():
                return found(*arguments, **keywords)

        return clocked


def _now(device: str) -> Any:
    if not device.startswith("cuda"):
        return time.perf_counter()
    import torch

    cuda: Any = torch.cuda  # its events are not annotated
    event = cuda.Event(enable_timing=True)
    event.record()
    return event


CLOCK = ForwardClock()
