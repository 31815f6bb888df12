"""A lock has one holder, is seen by readers, and a file system without locks is one clear line."""

import errno
import os
from pathlib import Path

import pytest

from m2hf.errors import ResourceError
from m2hf.ledger import LedgerWriter
from m2hf.ledger_view import LedgerView
from m2hf.locks import is_locked, lock


def test_a_lock_has_one_holder_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("a") as first:
        assert lock(first, path)
        with path.open("a") as second:
            assert not lock(second, path)
        assert is_locked(path)
    assert not is_locked(path)


def test_readers_do_not_disturb_each_other_and_need_no_write_permission(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch(mode=0o444)
    descriptor = os.open(path, os.O_RDONLY)
    with os.fdopen(descriptor) as reader:
        assert not is_locked(path)
        assert not reader.closed


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_share_without_locks_is_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    writer = LedgerWriter(tmp_path)
    writer.started("a", ["clip@12345678"], "decode")
    monkeypatch.setattr("m2hf.locks.fcntl.flock", no_locks)
    for work in (LedgerWriter, LedgerView.read):
        with pytest.raises(ResourceError) as caught:
            work(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path}: file locks don't work there")
        assert os.strerror(code) in str(caught.value)
        assert "mount the share with locks" in str(caught.value)
    monkeypatch.undo()
    writer.close()
