"""Connections that say nothing, or little by little, don't keep the page from answering."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from m2hf.fuse.search.web import connections
from m2hf.fuse.search.web.serve import bind, server


@pytest.fixture
def port() -> Iterator[int]:
    page = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])
    with bind("127.0.0.1", 0) as listening:
        serving = server(page)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        serving.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def get(port: int) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_idle_connections_do_not_stop_an_answer(port: int) -> None:
    with ExitStack() as opened:
        for number in range(300):
            idle = opened.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            if number % 2:
                idle.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert get(port) == (200, b"here")


def test_a_header_that_comes_slowly_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_S", 0.4)
    with socket.create_connection(("127.0.0.1", port), 30) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in slow.recv(4096)
        assert closed_while_sending(slow, seconds=20)


def closed_while_sending(connection: socket.socket, seconds: float) -> bool:
    """Whether the other end closes while a byte is sent now and then."""
    began = time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - began < seconds:
        try:
            connection.sendall(b"x")
            if connection.recv(4096) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:  # reset
            return True
    return False
