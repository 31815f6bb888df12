"""Connections of the page's server, bounded in time and number.

A connection that has no request in progress is closed HEADER_S seconds after it was opened or
after its last answer, however slowly bytes come; so a client can't hold one by sending a header
byte by byte. Beyond MOST connections the one that has waited longest is closed for a new one.
"""

import asyncio
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_S = 10.0
MOST = 200


class BoundedConnection(H11Protocol):
    """One connection, as uvicorn makes it."""

    _deadline: asyncio.TimerHandle | None = None
    _waiting_since_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(transport)
        self._wait()
        waiting = [
            connection
            for connection in cast("set[BoundedConnection]", self.connections)
            if connection is not self and connection.idle
        ]
        if len(self.connections) > MOST and waiting:
            min(waiting, key=lambda connection: connection._waiting_since_s).expire()

    def data_received(self, data: bytes) -> None:
        """The deadline stays until a whole header has come."""
        super().data_received(data)
        if not self.idle:
            self._stop()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless one has come already."""
        super().on_response_complete()
        if self.idle:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop()
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def expire(self) -> None:
        """Close a connection without a request in progress."""
        if self.idle and not self.transport.is_closing():
            self.connections.discard(self)
            self.transport.close()

    def _wait(self) -> None:
        self._stop()
        self._waiting_since_s = self.loop.time()
        self._deadline = self.loop.call_later(HEADER_S, self.expire)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
