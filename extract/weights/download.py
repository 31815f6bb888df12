"""Download one file over HTTP: resumed where it broke off, checked before it gets its name."""

import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from m2hf.atomic import raise_if_unwritable
from m2hf.errors import ResourceError, first_line
from m2hf.extract.weights.sources import RemoteFile

_ATTEMPTS = 5  # in a row, each of which brings less than _STEP bytes
_STEP = 1 << 20
_WAIT_S = 1.0  # doubled from attempt to attempt
_TIMEOUT_S = 60.0
_BLOCK = 1 << 18
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_BUSY = {408, 425, 429, 500, 502, 503, 504}

Report = Callable[[int, int | None], None]  # bytes received so far, total bytes if known


class _BrokenError(Exception):
    """The connection broke, or the server is busy; trying again may help."""


@dataclass(frozen=True)
class Download:
    """Downloads `remote` to `target`. Until it is complete, the data is in `<target>.part`."""

    remote: RemoteFile
    target: Path

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    def run(self, report: Report) -> None:
        """Download what is missing, check it, and rename it to `target`.

        Raises ResourceError without a network, for a server that refuses or keeps breaking off
        (the partial file is kept), for a full disk, and for content other than was announced (the
        partial file is deleted).
        """
        _check_address(self.remote.url)
        try:
            self.part.parent.mkdir(parents=True, exist_ok=True)
            self.part.touch()
        except OSError as error:
            raise_if_unwritable(self.part, error)
            raise
        failures = 0
        while True:
            before = self._size
            try:
                self._fetch(report)
                break
            except _BrokenError as error:
                failures = 1 if self._size - before >= _STEP else failures + 1
                if failures == _ATTEMPTS:
                    raise ResourceError(
                        f"{self.remote.url}: {error}; given up after {_ATTEMPTS} attempts, "
                        f"{self._size} bytes are kept; run the same command again to resume"
                    ) from error
                time.sleep(_WAIT_S * 2 ** (failures - 1))
        try:
            self.remote.check(self.part)
        except ResourceError as error:
            self.part.unlink()
            raise ResourceError(
                f"{error}; the download was deleted: run the same command again; if that fails "
                "in the same way, the server has a different file"
            ) from error
        self.part.replace(self.target)

    @property
    def _size(self) -> int:
        return self.part.stat().st_size

    def _fetch(self, report: Report) -> None:
        received = self._size
        request = urllib.request.Request(self.remote.url)  # noqa: S310 - the scheme was checked
        if received:
            request.add_header("Range", f"bytes={received}-")
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S) as response:
                if received and not _continues(response, received):
                    received = 0  # the server ignored Range and sends the whole file
                self._save(response, received, report)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, received)
        except (http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, socket.gaierror):
                raise ResourceError(
                    f"{self.remote.url}: no network, or no server of that name "
                    f"({reason.strerror}); run it on a machine with a network and copy the folder"
                ) from error
            raise _BrokenError(f"the connection broke: {first_line(error)}") from error

    def _save(self, response: http.client.HTTPResponse, received: int, report: Report) -> None:
        left = response.headers.get("Content-Length")
        total = received + int(left) if left is not None else None
        if None not in (total, self.remote.size) and total != self.remote.size:
            raise ResourceError(
                f"{self.remote.url}: the server has {total} bytes, expected {self.remote.size}; "
                "it is a different file"
            )
        with self.part.open("r+b") as stream:
            stream.truncate(received)
            stream.seek(received)
            while block := response.read(_BLOCK):
                try:
                    stream.write(block)
                    stream.flush()
                except OSError as error:
                    raise_if_unwritable(self.part, error)
                    raise ResourceError(f"{self.part}: {error.strerror}") from error
                received += len(block)
                report(received, total)
            os.fsync(stream.fileno())
        if total is not None and received < total:
            raise _BrokenError(f"the server closed the connection at {received} of {total} bytes")

    def _refused(self, error: urllib.error.HTTPError, received: int) -> None:
        """Handle an HTTP error; return where the partial file is already complete."""
        if error.code == 416 and received:  # the range begins at or after the end of the file
            if error.headers.get("Content-Range") == f"bytes */{received}":
                return
            self.part.write_bytes(b"")
            raise _BrokenError(
                "the partial file is longer than the server's; starting again"
            ) from error
        answer = f"the server answered {error.code} {error.reason}"
        if error.code in _BUSY:
            raise _BrokenError(answer) from error
        raise ResourceError(f"{self.remote.url}: {answer}") from error


def _check_address(url: str) -> None:
    """Raise ResourceError for an address that isn't https: http is for this machine alone, and for
    a mirror of the hub that the user names in HF_ENDPOINT."""
    address = urlsplit(url)
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    plain = address.hostname in _LOOPBACK or (mirror != "" and url.startswith(f"{mirror}/"))
    if address.scheme != "https" and not (address.scheme == "http" and plain):
        raise ResourceError(
            f"{url}: expected an https address; plain http can be altered on its way"
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that may be downloaded from."""

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
        _check_address(arguments[-1])  # the new URL
        return super().redirect_request(*arguments)


_OPENER = urllib.request.build_opener(_Redirects)


def _continues(response: http.client.HTTPResponse, received: int) -> bool:
    """Whether the response begins at byte `received`; raises _BrokenError for a different range."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return False
    span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if span is None or int(span[1]) != received:
        raise _BrokenError("the server sent a different range than was requested")
    return True
