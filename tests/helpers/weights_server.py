"""A server of weight files that does what servers do: Range, no Range, breaking off, lying."""

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
    """files: path -> content; how: path -> behaviour, "range" unless said; asked: (verb, path,
    Range header) of each request, in order.

    Behaviours: range, plain (200 to all), breaks (half of what is left), hangs-up (after the
    headers), busy-once (503), elsewhere (another part than was asked for), slow.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    root: str = ""

    def ranges(self) -> list[str]:
        """The Range headers of the GETs of our files; the hub's client has requests of its own."""
        return [span for verb, path, span in self.asked if verb == "GET" and path in self.files]

    def on_hub(self, repository: str, file: str, data: bytes, large: bool = True) -> str:
        """Serve a file as the hub does; the path of its bytes."""
        path = f"/{repository}/resolve/{COMMIT}/{file}"
        self.files[path] = data
        sha256 = hashlib.sha256(data).hexdigest()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self.files[f"/{repository}/resolve/main/{file}"] = (sha256 if large else git).encode()
        return path


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.served.asked.append(("HEAD", self.path, ""))
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
        self.served.asked.append(("GET", self.path, span))
        data, how = self.served.files.get(self.path), self.served.how.get(self.path, "range")
        if data is None or how == "busy-once":
            self.served.how.pop(self.path, None)
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
    """A server on a free port of this machine."""
    served = Served()
    handler = type("Handler", (_Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that was killed
    served.root = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
