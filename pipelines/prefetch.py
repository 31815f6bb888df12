"""Decode clips in background threads while models work on the clips before them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from m2hf.errors import M2hfError, MediaError, first_line
from m2hf.extract.media.decode import DecodedClip
from m2hf.manifest import Row
from m2hf.shortage import resource_error


@dataclass(frozen=True, eq=False)
class ClipRequest:
    """A clip to decode, and the names of the extractors that need it."""

    row: Row
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DecodeResult:
    """The decoded clip, or the error that prevented it; seconds: how long decoding took."""

    request: ClipRequest
    outcome: DecodedClip | MediaError
    seconds: float


class DecodePrefetcher:
    """Decodes in order, up to `depth` clips before they are needed; 0 decodes on demand.

    In threads, since decoding is an ffmpeg process and waiting for its pipes. The threads are
    daemons: an interrupt doesn't wait for them, and ffmpeg ends when its pipes are closed.
    """

    def __init__(
        self,
        decode: Callable[[ClipRequest], DecodedClip],
        requests: Sequence[ClipRequest],
        depth: int,
    ) -> None:
        self._decode = decode
        self._requests = requests
        self._depth = depth
        self._started: deque[Future[DecodeResult]] = deque()
        self._next = 0

    def in_flight(self) -> list[ClipRequest]:
        """The clips that are being prefetched at the moment."""
        started = zip(
            self._requests[self._next - len(self._started) :], self._started, strict=False
        )
        return [request for request, future in started if not future.done()]

    def requests(self) -> Iterator[tuple[ClipRequest, Callable[[], DecodeResult]]]:
        """Each request, and the function that returns its result; call it before the next one."""
        return ((request, self._next_result) for request in self._requests)

    def _next_result(self) -> DecodeResult:
        self._start(1)
        result = self._started.popleft().result()
        self._start(self._depth)
        return result

    def _start(self, count: int) -> None:
        """Start decodes until `count` are started and not yet returned."""
        while self._next < len(self._requests) and len(self._started) < count:
            future = Future[DecodeResult]()
            self._started.append(future)
            threading.Thread(
                target=self._run, args=(self._requests[self._next], future), daemon=True
            ).start()
            self._next += 1

    def _run(self, request: ClipRequest, future: "Future[DecodeResult]") -> None:
        began = time.perf_counter()
        try:
            outcome = self._outcome(request)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            future.set_exception(error)
            return
        future.set_result(DecodeResult(request, outcome, time.perf_counter() - began))

    def _outcome(self, request: ClipRequest) -> DecodedClip | MediaError:
        """Raises an M2hfError that is not of this clip alone, such as ResourceError."""
        try:
            return self._decode(request)
        except MediaError as error:
            return error
        except M2hfError:
            raise
        except Exception as error:
            if (lacking := resource_error(error, f"decoding {request.row.id}")) is not None:
                raise lacking from error
            return MediaError(f"{type(error).__name__}: {first_line(error)}")
