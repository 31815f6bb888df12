"""Decode clips in threads while models work on the ones before."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from m2hf.errors import MediaError
from m2hf.extract.media.decode import DecodedClip
from m2hf.manifest import Row


@dataclass(frozen=True, eq=False)
class Wanted:
    """A clip to decode, and the extractors that wait for it."""

    row: Row
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Decoded:
    """How a decode ended: with a clip, or with why there is none; seconds: how long it took."""

    wanted: Wanted
    outcome: DecodedClip | MediaError
    seconds: float


class DecodeAhead:
    """Decodes in order, up to `ahead` clips before they are asked for; 0 decodes when asked.

    Threads do: a decode is a process of ffmpeg, and waiting for its pipes. They are daemons, so
    that an interrupt doesn't wait for them, and ffmpeg ends when nobody reads its pipes.
    """

    def __init__(
        self, decode: Callable[[Wanted], DecodedClip], clips: Sequence[Wanted], ahead: int
    ) -> None:
        self._decode = decode
        self._clips = clips
        self._ahead = ahead
        self._begun: deque[Future[Decoded]] = deque()
        self._next = 0

    def in_flight(self) -> list[Wanted]:
        """Clips that are decoded at the moment, in advance."""
        begun = zip(self._clips[self._next - len(self._begun) :], self._begun, strict=False)
        return [wanted for wanted, future in begun if not future.done()]

    def coming(self) -> Iterator[tuple[Wanted, Callable[[], Decoded]]]:
        """Each clip, and what gives its decode; to be called before the next one."""
        return ((wanted, self._take) for wanted in self._clips)

    def _take(self) -> Decoded:
        self._begin(1)
        decoded = self._begun.popleft().result()
        self._begin(self._ahead)
        return decoded

    def _begin(self, count: int) -> None:
        while self._next < len(self._clips) and len(self._begun) < count:
            future = Future[Decoded]()
            self._begun.append(future)
            threading.Thread(
                target=self._run, args=(self._clips[self._next], future), daemon=True
            ).start()
            self._next += 1

    def _run(self, wanted: Wanted, future: "Future[Decoded]") -> None:
        began = time.perf_counter()
        try:
            outcome: DecodedClip | MediaError = self._decode(wanted)
        except MediaError as error:
            outcome = error
        except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
            future.set_exception(error)
            return
        future.set_result(Decoded(wanted, outcome, time.perf_counter() - began))
