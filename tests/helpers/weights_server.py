"""A server of weight files with the faults of real ones: no Range, dropped connections, errors."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40


@dataclass
class Served:
    """What a running server serves, and the requests that it got.

    Behaviours: range, plain (200 to every request), breaks (sends half of the rest), hangs-up
    (after the headers), busy-once (503), elsewhere (a different range than requested), slow.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    """Path -> content."""
    behaviour: dict[str, str] = field(default_factory=dict)
    """Path -> behaviour; "range" for a path that is not listed."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, Range header) of each request, in order."""
    root: str = ""

    def ranges(self) -> list[str]:
        """The Range headers of the GETs of `files`; the hub's client also sends other requests."""
        gets = (request for request in self.requests if request[0] == "GET")
        return [span for _, path, span in gets if path in self.files]

    def on_hub(self, repository: str, file: str, data: bytes, large: bool = True) -> str:
        """Serve a file as the hub does; returns the path of its content."""
        path = f"/{repository}/resolve/{COMMIT}/{file}"
        self.files[path] = data
        sha256 = hashlib.sha256(data).hexdigest()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self.files[f"/{repository}/resolve/main/{file}"] = (sha256 if large else git).encode()
        return path


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def log_message(self, *_: Any) -> None:
        """Log no requests."""

    def do_HEAD(self) -> None:
        self.served.requests.append(("HEAD", self.path, ""))
        etag = self.served.files.get(self.path)
        bytes_at = self.path.replace("/main/", f"/{COMMIT}/")
        self.send_response(404 if etag is None else 200)
        if etag is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{etag.decode()}"')
            self.send_header("X-Linked-Size", str(len(self.served.files[bytes_at])))
        self.end_headers()

    def do_GET(self) -> None:
        span = self.headers.get("Range", "")
        self.served.requests.append(("GET", self.path, span))
        data = self.served.files.get(self.path)
        how = self.served.behaviour.get(self.path, "range")
        if data is None or how == "busy-once":
            self.served.behaviour.pop(self.path, None)
            self.send_error(404 if data is None else 503)
            return
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and how != "plain" else 0
        if span and how != "plain" and start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.end_headers()
            return
        self.send_response(206 if span and how != "plain" else 200)
        first = start + 1 if how == "elsewhere" else start
        self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        left = data[start:]
        self.send_header("Content-Length", str(len(left)))
        self.end_headers()
        if how == "breaks" and len(left) > 20_000:
            left = left[: len(left) // 2]
        if how == "hangs-up":
            left = b""
        step = 1 << 16
        for at in range(0, len(left), step):
            self.wfile.write(left[at : at + step])
            if how == "slow":
                time.sleep(0.05)
        self.close_connection = True


@contextmanager
def serving() -> Iterator[Served]:
    """A running server on a free port of localhost."""
    served = Served()
    handler = type("Handler", (_Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # killed clients
    served.root = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
