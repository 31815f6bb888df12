"""Atomic writes: a failure leaves the old file, and leftovers of killed writers are removed."""

import errno
import os
import re
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from m2hf import atomic
from m2hf.errors import ResourceError, UsageError


def test_atomic_write_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "file"
    atomic.atomic_text(target, "old")

    def fail_half_way() -> None:
        with atomic.atomic_write(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail_half_way()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_atomic_write_verifies_before_it_replaces(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise ValueError(path.read_text())

    with pytest.raises(ValueError, match="new"), atomic.atomic_write(tmp_path / "f", refuse) as t:
        t.write_text("new")
    assert not (tmp_path / "f").exists()


def test_atomic_write_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / ".f.tmp-1").write_text("left")
    atomic.atomic_text(tmp_path / "f", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_atomic_write_leaves_what_another_writer_may_still_write(tmp_path: Path) -> None:
    host = socket.gethostname()
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {f"{host}-{dead.pid}": 0, f"{host}-{os.getppid()}": 0, "far-7": 0, "gone-7": 2}
    for writer, days in names.items():
        file = tmp_path / f".f.tmp-{writer}"
        file.write_text("half")
        then = time.time() - days * 86400
        os.utime(file, (then, then))
    atomic.atomic_text(tmp_path / "f", "x")
    kept = {f".f.tmp-{host}-{os.getppid()}", ".f.tmp-far-7"}
    assert {p.name for p in tmp_path.iterdir()} == {"f", *kept}


def test_a_full_disk_is_one_clear_line() -> None:
    with pytest.raises(ResourceError, match=r"/dev/full: can't write \(No space left on device\)"):
        _write_to_full_disk()


def _write_to_full_disk() -> None:
    with atomic.atomic_write(Path("/dev/full")), Path("/dev/full").open("w") as stream:
        stream.write("x")


@pytest.fixture
def umask_027() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask_027")
def test_a_file_gets_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with atomic.atomic_write(target) as temporary:
        os.close(os.open(temporary.with_name("x"), os.O_CREAT | os.O_WRONLY, 0o600))
        temporary.with_name("x").replace(temporary)  # as safetensors: a file of the owner alone
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    atomic.atomic_text(target, "again")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_file_without_read_permission_is_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the error of Python, and where a library raises another one; root can read all files."""
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(UsageError, match=re.escape(f"permission denied: {path}: this user may")):
        atomic.raise_if_unreadable(path, PermissionError(errno.EACCES, "no", str(path)))
    atomic.raise_if_unreadable(path, RuntimeError("damaged"))

    def denied(*_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "no", str(path))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UsageError, match="permission denied: "):
        atomic.raise_if_unreadable(path, RuntimeError("No such file or directory"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EFBIG, os.strerror(errno.EFBIG)),
        OSError("Can't write data (errno = 27, error message = 'File too large')"),
        OSError("Can't write data (errno = 28, error message = 'No space left on device')"),
    ],
)
def test_a_full_disk_is_known_by_number_or_text(error: OSError, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"can't write .(File too|No space)"):
        atomic.raise_if_unwritable(tmp_path / "a", error)
    atomic.raise_if_unwritable(tmp_path / "a", OSError("something else"))
