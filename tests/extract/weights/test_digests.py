"""Digests that outlive the process: never of another content, and a bad cache is no error."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from m2hf.extract.weights import digests
from m2hf.extract.weights.digests import digest_of

SIZE = digests._WORTH_BYTES


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".cache" / "m2hf" / "digests.json"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, ...]]:
    """What was hashed; the clock is an hour ahead, so that files are old."""
    now = time.time()
    monkeypatch.setattr(digests.time, "time", lambda: now + 3600)
    real, calls = digests._hashed, []

    def counted(paths: tuple[Path, ...]) -> str:
        calls.append(paths)
        return real(paths)

    monkeypatch.setattr(digests, "_hashed", counted)
    return calls


def new_process() -> None:
    digests._digest.cache_clear()


def weights(path: Path, byte: bytes) -> Path:
    path.write_bytes(byte * SIZE)
    return path


def expected(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(byte * SIZE for byte in contents)).hexdigest()


def test_a_file_is_hashed_once(cache: Path, hashed: list[tuple[Path, ...]], tmp_path: Path) -> None:
    one, two = weights(tmp_path / "1", b"1"), weights(tmp_path / "2", b"2")
    for _ in range(3):
        new_process()
        assert digest_of((one,)) == expected(b"1")
        assert digest_of((one, two)) == expected(b"1", b"2")
    assert hashed == [(one,), (one, two)]
    assert oct(cache.stat().st_mode & 0o077) == oct(one.stat().st_mode & 0o077)


def test_other_content_of_the_same_size_and_mtime_is_hashed_again(
    cache: Path, hashed: list[tuple[Path, ...]], tmp_path: Path
) -> None:
    path = weights(tmp_path / "w", b"1")
    old = path.stat()
    digest_of((path,))
    new_process()
    weights(path, b"2")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert digest_of((path,)) == expected(b"2")
    assert len(hashed) == 2


def test_a_file_that_has_just_changed_and_a_small_one_are_not_remembered(
    cache: Path, tmp_path: Path
) -> None:
    new_process()
    assert digest_of((weights(tmp_path / "w", b"3"),)) == expected(b"3")
    (tmp_path / "small").write_bytes(b"x")
    digest_of((tmp_path / "small",))
    assert not cache.exists()


@pytest.mark.parametrize("text", ["{", "[]", '"\udc80"', '{"schema": 1}', ""])
def test_a_damaged_cache_is_written_again(
    text: str, cache: Path, hashed: list[tuple[Path, ...]], tmp_path: Path
) -> None:
    path = weights(tmp_path / "w", b"4")
    cache.parent.mkdir(parents=True)
    cache.write_text(text, encoding="utf-8", errors="surrogatepass")
    for _ in range(2):
        new_process()
        assert digest_of((path,)) == expected(b"4")
    assert len(hashed) == 1


@pytest.mark.parametrize("value", [1, [], ["a"], [[[1]], "b"], "x"])
def test_a_wrong_entry_is_not_believed(
    value: object, cache: Path, hashed: list[tuple[Path, ...]], tmp_path: Path
) -> None:
    path = weights(tmp_path / "w", b"5")
    digest_of((path,))
    known = json.loads(cache.read_text())
    stamps, _ = known[str(path)]
    for wrong in (value, [stamps, value], [stamps, "0" * 63]):
        cache.write_text(json.dumps({str(path): wrong}))
        new_process()
        assert digest_of((path,)) == expected(b"5")


def test_the_latest_entries_are_kept(
    cache: Path, hashed: list[tuple[Path, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_MOST", 2)
    paths = [weights(tmp_path / str(n), b"6") for n in range(3)]
    for path in paths:
        digest_of((path,))
    assert list(json.loads(cache.read_text())) == [str(path) for path in paths[1:]]


def test_a_home_that_can_not_be_written_is_no_error(
    hashed: list[tuple[Path, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    new_process()
    assert digest_of((weights(tmp_path / "w", b"7"),)) == expected(b"7")
