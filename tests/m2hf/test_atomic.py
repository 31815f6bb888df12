"""Atomic writes: a failure leaves the old file, and leftovers of killed writers are removed."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from m2hf import atomic
from m2hf.errors import ResourceError


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
