"""The ledger tells ok, failed, interrupted and dead apart, and a poison clip from a busy one."""

import contextlib
import errno
import fcntl
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf.errors import MediaError, ResourceError
from m2hf.ledger import LedgerWriter, TimeSpent
from m2hf.ledger_view import Deaths, LedgerView

STREAM = "clip@12345678"


def die_at(folder: Path, item: str, orderly: bool = False) -> None:
    """Another process starts on `item` and is killed, or ends in an orderly way."""
    end = (
        "raise SystemExit" if orderly else "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    code = (
        "import sys; from pathlib import Path; from m2hf.ledger import LedgerWriter\n"
        f"LedgerWriter(Path(sys.argv[1])).started(sys.argv[2], ['{STREAM}'], 'extract')\n{end}"
    )
    subprocess.run([sys.executable, "-c", code, str(folder), item], check=False)


def test_outcomes(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    for item, event, why in (("a", "ok", ""), ("b", "empty", "no audio stream")):
        writer.started(item, [STREAM], "extract")
        writer.done(item, STREAM, event, TimeSpent(0.5, 0.25), why)
    writer.started("c", [STREAM, "asr@1"], "decode")
    writer.failed("c", [STREAM, "asr@1"], "decode", MediaError("the file is empty"), 0.1, 1)
    writer.close()
    view = LedgerView.read(tmp_path)
    assert set(view.failures) == {("c", STREAM), ("c", "asr@1")}
    failure = view.failures[("c", STREAM)]
    assert (failure.stage, failure.error, failure.message) == (
        "decode",
        "MediaError",
        "the file is empty",
    )
    assert view.spent[STREAM] == (2, TimeSpent(1.0, 0.5))
    assert not view.quarantined


def test_a_later_success_clears_a_failure_and_retry_forgets(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    for item in ("a", "b"):
        writer.failed(item, [STREAM], "decode", MediaError("x"), 0.1, 1)
    writer.done("a", STREAM, "ok", TimeSpent(0.1))
    writer.retry("b", [STREAM])
    assert not LedgerView.read(tmp_path).failures
    writer.close()


def died_alone(folder: Path, item: str) -> None:
    """A process that tried the item alone died, and the one that waited for it wrote that."""
    die_at(folder, item)
    writer = LedgerWriter(folder)
    writer.died(item, [STREAM], "extract", "SIGSEGV")
    writer.close()


def test_any_number_of_ends_make_a_suspect_and_no_quarantine(tmp_path: Path) -> None:
    for _ in range(5):
        die_at(tmp_path, "long")
    for view in (LedgerView.read(tmp_path), Deaths(tmp_path).view()):
        assert view.suspects == {("long", STREAM)}
        assert not view.deaths
        assert not view.quarantined


def test_two_deaths_alone_are_quarantine_and_retry_lifts_it(tmp_path: Path) -> None:
    died_alone(tmp_path, "poison")
    assert not Deaths(tmp_path).view().quarantined
    died_alone(tmp_path, "other")
    died_alone(tmp_path, "poison")
    assert list(Deaths(tmp_path).view().quarantined) == [("poison", STREAM)]
    assert LedgerView.read(tmp_path).quarantined == {
        ("poison", STREAM): "the process died 2 times at stage extract (SIGSEGV)"
    }
    retry(tmp_path, "poison")
    assert Deaths(tmp_path).view().suspects == {("other", STREAM)}
    assert not Deaths(tmp_path).view().quarantined
    died_alone(tmp_path, "poison")  # deaths before the retry don't count
    assert not Deaths(tmp_path).view().quarantined


def test_an_orderly_end_and_a_running_process_are_no_deaths(tmp_path: Path) -> None:
    die_at(tmp_path, "a", orderly=True)
    running = [LedgerWriter(tmp_path) for _ in range(2)]
    for writer in running:
        writer.started("b", [STREAM], "extract")
    assert not LedgerView.read(tmp_path).suspects
    for writer in running:
        writer.close()
    assert not LedgerView.read(tmp_path).suspects


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.done("a", STREAM, "ok", TimeSpent(0.1))
    writer.close()
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"event": "star')
    assert LedgerView.read(tmp_path).spent[STREAM] == (1, TimeSpent(0.1))


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        writer._file, real = full, writer._file
        with pytest.raises(ResourceError, match=r"can't write \(No space left on device\)"):
            writer.done("a", STREAM, "ok", TimeSpent(0.1))
        writer._file = real
        with contextlib.suppress(OSError):
            full.close()
    writer.close()


def test_all_items_in_work_are_suspects(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from m2hf.ledger import LedgerWriter\n"
        "writer = LedgerWriter(Path(sys.argv[1]))\n"
        f"writer.started('a', ['{STREAM}'], 'extract', {{'b': ['{STREAM}', 'asr@1']}})\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    found = Deaths(tmp_path).view().suspects
    assert found == {("a", STREAM), ("b", STREAM), ("b", "asr@1")}


def test_an_interrupt_while_an_outcome_is_written_is_no_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    writer = LedgerWriter(tmp_path)
    writer.started("a", [STREAM], "extract")
    with monkeypatch.context() as patch:
        patch.setattr("m2hf.ledger.json.dumps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.done("a", STREAM, "ok", TimeSpent(0.1))
    writer.close()
    (file,) = tmp_path.glob("*.jsonl")
    assert '"interrupted"' in file.read_text().splitlines()[-1]


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("m2hf.ledger.time.time", lambda: seconds)


def fail(folder: Path, item: str) -> None:
    writer = LedgerWriter(folder)
    writer.failed(item, [STREAM], "decode", MediaError("x"), 0.1, 1)
    writer.close()


def retry(folder: Path, item: str) -> None:
    writer = LedgerWriter(folder)
    writer.retry(item, [STREAM])
    writer.close()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**6)), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_the_last_event_counts_whatever_the_clock_says(steps: list[tuple[bool, int]]) -> None:
    """Each process fails the item, or retries it, at a clock that was set at random."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        for failing, clock in steps:
            set_clock(patch, float(clock))
            (fail if failing else retry)(Path(name), "a")
        assert bool(LedgerView.read(Path(name)).failures) == steps[-1][0]


def abandon(folder: Path, item: str) -> None:
    """What is left of a process that was killed at the item."""
    writer = LedgerWriter(folder)
    writer.started(item, [STREAM], "extract")
    writer._file.close()


def die(folder: Path, item: str) -> None:
    abandon(folder, item)
    writer = LedgerWriter(folder)
    writer.died(item, [STREAM], "extract", "SIGKILL")
    writer.close()


EVENTS = st.sampled_from([abandon, die, retry])


@given(st.lists(st.tuples(EVENTS, st.sampled_from("ab"), st.integers(0, 10**6)), max_size=8))
@settings(max_examples=50, deadline=None)
def test_quarantine_is_two_deaths_since_the_last_retry_whatever_the_clock_says(
    steps: list[tuple[Callable[[Path, str], None], str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        for happen, item, clock in steps:
            set_clock(patch, float(clock))
            happen(Path(name), item)
        views = LedgerView.read(Path(name)), Deaths(Path(name)).view()
    for item in "ab":
        happened = [happen for happen, at, _ in steps if at == item]
        while retry in happened:
            happened = happened[happened.index(retry) + 1 :]
        for view in views:
            assert ((item, STREAM) in view.suspects) == bool(happened)
            assert view.deaths[(item, STREAM)] == happened.count(die)
            assert ((item, STREAM) in view.quarantined) == (happened.count(die) >= 2)


def test_a_clock_set_back_while_a_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, 9000.0)
    writer = LedgerWriter(tmp_path)
    writer.failed("a", [STREAM], "decode", MediaError("x"), 0.1, 1)
    set_clock(monkeypatch, 100.0)
    writer.done("a", STREAM, "ok", TimeSpent(0.1))
    writer.failed("b", [STREAM], "decode", MediaError("x"), 0.1, 1)
    writer.close()
    assert list(LedgerView.read(tmp_path).failures) == [("b", STREAM)]
    retry(tmp_path, "b")
    assert not LedgerView.read(tmp_path).failures


def test_a_ledger_of_an_old_version_whose_clock_went_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wrote the plain time: 9000, then 100; whatever comes later is later."""
    fail(tmp_path, "a")
    (path,) = tmp_path.glob("*.jsonl")
    event = json.loads(path.read_text())
    path.write_text("".join(json.dumps({**event, "t": t}) + "\n" for t in (9000.0, 100.0)))
    set_clock(monkeypatch, 50.0)
    retry(tmp_path, "a")
    assert not LedgerView.read(tmp_path).failures


def test_the_last_line_is_found_behind_long_and_torn_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, 9000.0)
    fail(tmp_path, "a" * 200_000)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"event": "star')
    (tmp_path / "0.jsonl").write_text("")
    set_clock(monkeypatch, 50.0)
    retry(tmp_path, "a" * 200_000)
    assert not LedgerView.read(tmp_path).failures


def test_a_full_disk_counts_no_death(tmp_path: Path) -> None:
    """The process ends in an orderly way, and can't record that."""
    code = """
import resource, sys
from pathlib import Path
from m2hf.errors import MediaError
from m2hf.ledger import LedgerWriter

writer = LedgerWriter(Path(sys.argv[1]))
writer.started("before", ["clip@12345678"], "extract")
writer.failed("before", ["clip@12345678"], "extract", MediaError("x"), 0.1, 1)
writer.started("a", ["clip@12345678"], "extract")
(path,) = Path(sys.argv[1]).glob("*.jsonl")
size = path.stat().st_size + 10
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    view = LedgerView.read(tmp_path)
    assert not view.deaths
    assert list(view.failures) == [("before", STREAM)]


def test_a_reader_is_not_taken_for_the_writer(tmp_path: Path) -> None:
    die_at(tmp_path, "a")
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert LedgerView.read(tmp_path).suspects == {("a", STREAM)}


def test_the_lock_of_a_file_is_asked_for_without_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may be on a disk that is mounted read-only."""
    die_at(tmp_path, "a")
    really = Path.open

    def read_only(path: Path, mode: str = "r", **more: object) -> object:
        if {*mode} & {*"wa+"}:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return really(path, mode, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", read_only)
    assert LedgerView.read(tmp_path).suspects == {("a", STREAM)}
