"""One file over HTTP, to the end: resumed where it broke off, checked before it counts."""

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
from urllib.parse import urlsplit

from m2hf.atomic import raise_if_unwritable
from m2hf.errors import ResourceError, first_line
from m2hf.extract.weights.sources import Remote

_ATTEMPTS = 5  # in a row that bring less than _STEP
_STEP = 1 << 20
_WAIT_S = 1.0  # doubled from attempt to attempt
_TIMEOUT_S = 60.0
_BLOCK = 1 << 18
_BUSY = {408, 425, 429, 500, 502, 503, 504}

Report = Callable[[int, int | None], None]  # bytes that are there, bytes in all if known


class _BrokenError(Exception):
    """The connection broke, or the server is busy; trying again may help."""


@dataclass(frozen=True)
class Download:
    """`remote` to `target`. What has come so far is kept beside it, as `<target>.part`."""

    remote: Remote
    target: Path

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    def run(self, report: Report) -> None:
        """Download what is missing, check it, and give it its name.

        Raises ResourceError without a network, for a server that refuses or keeps breaking off
        (what came is kept), for a full disk, and for other content than was announced (what came
        is deleted).
        """
        if urlsplit(self.remote.url).scheme not in ("http", "https"):
            raise ResourceError(f"{self.remote.url}: expected an http or https address")
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
                        f"{self._size} bytes are kept; run the same command again to go on"
                    ) from error
                time.sleep(_WAIT_S * 2 ** (failures - 1))
        try:
            self.remote.check(self.part)
        except ResourceError as error:
            self.part.unlink()
            raise ResourceError(
                f"{error}; what came was deleted: run the same command again, and if it is so "
                "again, the server has another file"
            ) from error
        self.part.replace(self.target)

    @property
    def _size(self) -> int:
        return self.part.stat().st_size

    def _fetch(self, report: Report) -> None:
        have = self._size
        request = urllib.request.Request(self.remote.url)  # noqa: S310 - the scheme was checked
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
                if have and not _continues(response, have):
                    have = 0  # this server starts anew whatever is asked
                self._take(response, have, report)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, have)
        except (http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, socket.gaierror):
                raise ResourceError(
                    f"{self.remote.url}: no network, or no server of that name "
                    f"({reason.strerror}); run it where there is one and copy the folder"
                ) from error
            raise _BrokenError(f"the connection broke: {first_line(error)}") from error

    def _take(self, response: http.client.HTTPResponse, have: int, report: Report) -> None:
        left = response.headers.get("Content-Length")
        total = have + int(left) if left is not None else None
        if None not in (total, self.remote.size) and total != self.remote.size:
            raise ResourceError(
                f"{self.remote.url}: the server has {total} bytes, {self.remote.size} were "
                "announced; it is not the same file"
            )
        with self.part.open("r+b") as stream:
            stream.truncate(have)
            stream.seek(have)
            while block := response.read(_BLOCK):
                try:
                    stream.write(block)
                    stream.flush()
                except OSError as error:
                    raise_if_unwritable(self.part, error)
                    raise ResourceError(f"{self.part}: {error.strerror}") from error
                have += len(block)
                report(have, total)
            os.fsync(stream.fileno())
        if total is not None and have < total:
            raise _BrokenError(f"the server broke off at {have} of {total} bytes")

    def _refused(self, error: urllib.error.HTTPError, have: int) -> None:
        """Returns where all of the file is there already."""
        if error.code == 416 and have:  # nothing comes after what we have
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
            self.part.write_bytes(b"")
            raise _BrokenError("more is here than the server has; starting anew") from error
        said = f"the server says {error.code} {error.reason}"
        if error.code in _BUSY:
            raise _BrokenError(said) from error
        raise ResourceError(f"{self.remote.url}: {said}") from error


def _continues(response: http.client.HTTPResponse, have: int) -> bool:
    """Whether the answer begins where we left off; raises _BrokenError where it is another part."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return False
    span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if span is None or int(span[1]) != have:
        raise _BrokenError("the server sent another part than was asked for")
    return True
