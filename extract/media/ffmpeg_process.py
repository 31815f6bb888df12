"""Runs one ffmpeg process: its pipes, its log, and the limits on it."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from m2hf.errors import MediaError
from m2hf.ffmpeg import ffmpeg_exe

Sink = Callable[[bytes], None]
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Deadline:
    """When decoding a clip must be done, however many processes it takes."""

    limit_s: float
    at_s: float

    @classmethod
    def after(cls, limit_s: float) -> "Deadline":
        return cls(limit_s, time.monotonic() + limit_s)

    @property
    def left_s(self) -> float:
        return max(0.0, self.at_s - time.monotonic())

    def passed(self) -> MediaError:
        return MediaError(f"over the limit of {self.limit_s:g} s to decode")


class FfmpegProcess:
    """An ffmpeg command whose outputs are pipes.

    sinks: take the bytes of each output, each in a thread of its own; read_line: takes the lines of
    the log. An error that a sink raises stops ffmpeg, and is raised by `run`.
    """

    def __init__(
        self, sinks: Sequence[Sink], read_line: Callable[[str], None], deadline: Deadline
    ) -> None:
        self._sinks = sinks
        self._read_line = read_line
        self._deadline = deadline
        self._errors: list[Exception] = []

    def run(self, command: Callable[[Sequence[int]], list[str]]) -> int:
        """Run to the end; the exit code, negative for a signal.

        command: makes ffmpeg's arguments from the file descriptors of the outputs. Raises
        MediaError where the time is over, and what a sink raises.
        """
        pipes: list[tuple[int, int]] = []
        try:
            for _ in self._sinks:
                pipes.append(os.pipe())
            writing = [write for _, write in pipes]
            process = subprocess.Popen(
                [ffmpeg_exe(), "-hide_banner", "-nostdin", "-nostats", "-y", *command(writing)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=writing,
            )
        except BaseException:
            for read, _ in pipes:
                os.close(read)
            raise
        finally:
            for _, write in pipes:
                os.close(write)

        try:
            self._wait(process, [read for read, _ in pipes])
        except BaseException:
            process.kill()
            process.wait()
            raise
        if self._errors:
            raise self._errors[0]
        return process.returncode

    def _wait(self, process: "subprocess.Popen[bytes]", pipes: Sequence[int]) -> None:
        def stop(error: Exception) -> None:
            self._errors.append(error)
            process.kill()

        timer = threading.Timer(self._deadline.left_s, stop, [self._deadline.passed()])
        readers = [
            threading.Thread(target=_drain, args=(pipe, sink, stop))
            for pipe, sink in zip(pipes, self._sinks, strict=True)
        ]
        timer.start()
        try:
            for thread in readers:
                thread.start()
            assert process.stderr is not None
            with process.stderr as log:
                for line in _lines(log):
                    self._read_line(line)
            process.wait()
            for thread in readers:
                thread.join()
        finally:
            timer.cancel()


def _drain(read: int, sink: Sink, stop: Callable[[Exception], None]) -> None:
    with os.fdopen(read, "rb", buffering=0) as pipe:
        try:
            while chunk := pipe.read(_CHUNK):
                sink(chunk)
        except Exception as error:  # noqa: BLE001 - raised in a thread, it would be lost
            stop(error)


def _lines(log: Any) -> Iterator[str]:
    for raw in log:
        yield raw.decode("utf-8", errors="replace").rstrip()
