"""The merged view: equal however it is read, in bounded memory, and linear in the ledger."""

import json
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2hf import ledger_file, ledger_view
from m2hf.ledger_view import Deaths, LedgerView

STREAM = "clip@12345678"


def event(kind: str, item: str, t: float) -> dict[str, Any]:
    more: dict[str, dict[str, Any]] = {
        "started": {"stage": "extract"},
        "died": {"stage": "extract", "message": "signal 9"},
        "failed": {"stage": "decode", "class": "MediaError", "message": "x", "attempt": 1},
        "ok": {"seconds": 0.5},
    }
    more["failed"]["seconds"] = 0.1
    head = {"event": kind, "id": item, "streams": [STREAM]}
    return {**head, **more.get(kind, {}), "t": t}


def write(path: Path, events: Sequence[dict[str, Any]], torn: bytes = b"") -> None:
    path.write_bytes(b"".join(json.dumps(e).encode() + b"\n" for e in events) + torn)


EVENTS = st.builds(
    event,
    st.sampled_from(["started", "ok", "failed", "died", "retry"]),
    st.sampled_from("ab"),
    st.integers(0, 50).map(float),
)
FILES = st.lists(st.lists(EVENTS, max_size=8), min_size=1, max_size=4)


def merged_at_once(files: Sequence[Sequence[dict[str, Any]]]) -> LedgerView:
    """All events in memory, sorted: what merging must equal."""
    everything = []
    for events in files:
        own = [dict(e) for e in events]
        for at in range(len(own) - 2, -1, -1):
            own[at]["t"] = min(own[at]["t"], own[at + 1]["t"])
        if own and own[-1]["event"] == "started":
            own[-1]["event"] = "abandoned"
        everything += own
    return LedgerView._of(sorted(everything, key=lambda e: e["t"]))


@given(FILES, st.booleans(), st.integers(1, 300))
@settings(max_examples=80)
def test_is_what_a_sort_of_all_events_gives(
    files: list[list[dict[str, Any]]], sorted_times: bool, chunk: int
) -> None:
    if sorted_times:  # as all versions since write them; else that of an old one
        files = [sorted(events, key=lambda e: e["t"]) for events in files]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_view, "CHUNK_BYTES", chunk)
        patch.setattr(ledger_view, "_LEAST_CHUNK_BYTES", 1)
        for number, events in enumerate(files):
            write(Path(name) / f"{number}.jsonl", events, b'{"event": "ok"')
        found, expected = LedgerView.read(Path(name)), merged_at_once(files)
        deaths = Deaths(Path(name)).view()
    assert found == expected
    if sorted_times:  # deaths and retries alone don't show how far an old clock went back
        view = deaths
        assert view.suspects == found.suspects
        assert view.quarantined == found.quarantined
        assert +view.deaths == +found.deaths


@given(st.lists(st.tuples(st.integers(0, 2), EVENTS), max_size=12))
@settings(max_examples=60)
def test_deaths_that_follow_a_ledger_are_those_of_a_new_reader(
    steps: list[tuple[int, dict[str, Any]]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        deaths, files = Deaths(Path(name)), dict[int, list[dict[str, Any]]]()
        for number, happened in steps:
            own = files.setdefault(number, [])
            if happened["event"] == "ok" and own and own[-1]["event"] == "started":
                own.pop()  # a writer on a full disk takes its last line back
            own.append(happened)
            write(Path(name) / f"{number}.jsonl", own)
            kept, fresh = deaths.view(), Deaths(Path(name)).view()
            assert kept.suspects == fresh.suspects
            assert kept.quarantined == fresh.quarantined
            assert +kept.deaths == +fresh.deaths


def test_no_line_is_read_twice_for_the_next_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    really = ledger_file.read_bytes

    def counted(*given: Any, **more: Any) -> bytes:
        nonlocal read
        data = really(*given, **more)
        read += len(data)
        return data

    monkeypatch.setattr(ledger_file, "read_bytes", counted)
    deaths, events = Deaths(tmp_path), list[dict[str, Any]]()
    for bucket in range(50):
        events += [event("ok", f"{bucket}-{clip}", 1.0) for clip in range(20)]
        write(tmp_path / "a.jsonl", events)
        deaths.view()
    assert read == (tmp_path / "a.jsonl").stat().st_size


def test_memory_does_not_grow_with_the_clips(tmp_path: Path) -> None:
    peaks = []
    for clips in (2_000, 20_000):
        folder = tmp_path / str(clips)
        folder.mkdir()
        for number in range(4):
            done = [event("ok", f"{number}-{clip}", float(clip)) for clip in range(clips // 4)]
            write(folder / f"{number}.jsonl", done)
        tracemalloc.start()
        LedgerView.read(folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 16 << 20
    assert peaks[1] < 9 * peaks[0]
