"""Serve the page on a port, until interrupted."""

import errno
import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from m2hf.errors import UsageError
from m2hf.fuse.search.web.connections import MOST, BoundedConnection


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; raises UsageError where it can't.

    Called before the model is loaded, so that a port in use is reported at once.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UsageError(f"--host {host}: no such host ({error.strerror})") from error
    listening = socket.socket(family, kind, proto)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it: those whose other end has gone are found and closed.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    try:
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        raise UsageError(_why(error, host, port)) from error
    return listening


def url(listening: socket.socket) -> str:
    """The URL for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def is_public(listening: socket.socket) -> bool:
    """Whether other machines can reach it."""
    return not ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def server(app: Starlette) -> uvicorn.Server:
    """A server for `run(sockets=[...])`; it logs no requests, bounds its connections, and shuts
    down within a second even while a player is open."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=1,
        http=BoundedConnection,
        timeout_keep_alive=5,
        limit_concurrency=2 * MOST,
    )
    return uvicorn.Server(config)


def serve(app: Starlette, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; `ready` is called with the URL."""
    ready(url(listening))
    try:
        server(app).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn raises it again after its shutdown
        return


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {port}: in use on {host}; give another one, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"--port {port}: this user may not listen on it; give one from 1024 up"
    return f"--host {host}: can't listen there ({error.strerror}); give an address of this machine"
