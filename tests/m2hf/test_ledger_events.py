"""A damaged ledger is one line that names the file and the line, whatever the damage is."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated_json, refused_in_one_line

from m2hf import ledger_events
from m2hf.errors import MediaError, SchemaError
from m2hf.ledger import LedgerWriter, TimeSpent
from m2hf.ledger_events import KINDS, parse_event
from m2hf.ledger_file import LedgerFile
from m2hf.ledger_tail import LedgerTail
from m2hf.ledger_view import Deaths, LedgerView

OK = {"event": "ok", "id": "a", "streams": ["clip@1"], "seconds": 0.5, "t": 1.5}
STARTED = {
    **{"event": "started", "id": "a", "streams": ["clip@1"], "stage": "extract", "t": 2},
    "beside": {"b": ["clip@1"]},
}
FAILED = {
    **{"event": "failed", "id": "a", "streams": ["clip@1"], "stage": "decode", "t": 3.0},
    **{"class": "MediaError", "message": "broken", "seconds": 0.1, "attempt": 1},
}


def written(folder: Path, *lines: bytes) -> Path:
    path = folder / "a.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event": "x"}, "event = 'x', expected one of started, ok, empty, "),
        ({"event": ["ok"]}, r"event = \['ok'\], expected one of"),
        ({"t": None}, "t of event ok is None, expected seconds from 0 to 1e11"),
        ({"t": 10**400}, "t of event ok is 1000"),
        ({"t": True}, "t of event ok is True"),
        ({"t": 1e300}, "t of event ok is 1e"),
        ({"seconds": -1}, "seconds of event ok is -1"),
        ({"streams": "clip@1"}, "streams of event ok is 'clip@1', expected a list of names"),
        ({"streams": [1]}, r"streams of event ok is \[1\]"),
        ({"id": 1}, "id of event ok is 1, expected a text"),
        ({"message": {}}, "message of event ok is {}, expected a text"),
    ],
)
def test_what_a_line_lacks_is_said(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    line = json.dumps(OK | change).encode()
    path = written(tmp_path, json.dumps(OK).encode(), line, json.dumps(OK).encode())
    with pytest.raises(SchemaError, match=message) as caught:
        LedgerView.read(tmp_path)
    said = f"{path}, line 2 (remove the line to forget the outcome that it records): "
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("name", ["event", "id", "streams", "t", "seconds"])
def test_a_field_that_is_gone_is_named(name: str) -> None:
    line = json.dumps({key: value for key, value in OK.items() if key != name}).encode()
    with pytest.raises(SchemaError, match=f"{name} (= None|of event ok is absent), expected"):
        parse_event(line, "here")


LINES = st.sampled_from([OK, STARTED, FAILED, {**OK, "event": "empty"}, {**OK, "seconds": 3}])


@given(
    st.one_of(
        LINES.flatmap(mutated_json),
        st.builds(
            lambda event, change: json.dumps(event | change, ensure_ascii=False).encode(),
            LINES,
            st.fixed_dictionaries(
                {},
                optional={
                    "id": st.text(max_size=5),
                    "streams": st.lists(st.text(max_size=3), max_size=3),
                    "seconds": st.floats(0, 1e12) | st.integers(0, 10**12),
                    "model_seconds": st.floats(0, 1e3),
                    "stage": st.text(max_size=3),
                    "t": st.floats(0, 1e12),
                },
            ),
        ),
    )
)
@settings(max_examples=400)
def test_a_plain_line_is_read_as_its_json(line: bytes) -> None:
    def outcome() -> Any:
        try:
            return parse_event(line, "here")
        except SchemaError as error:
            return str(error)

    fast = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_events, "_plain_event", lambda text: None)
        assert fast == outcome()


def test_most_lines_of_a_writer_are_plain(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.started("ein Vidéo", ["clip@1", "asr@2"], "decode")
    writer.decoded("ein Vidéo", 0.25)
    writer.done("ein Vidéo", "clip@1", "ok", TimeSpent(0.5, 0.25))
    writer.close()
    (path,) = tmp_path.glob("*.jsonl")
    for line in path.read_text().splitlines():
        assert ledger_events._plain_event(line) == json.loads(line)


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(SchemaError, match=r"folder\.jsonl: Is a directory"):
        LedgerView.read(tmp_path)


@given(
    st.sampled_from([OK, STARTED, FAILED]).flatmap(mutated_json),
    st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_any_damage_is_one_line_or_events(data: bytes, last: bool) -> None:
    after = [] if last else [json.dumps(OK).encode()]
    with tempfile.TemporaryDirectory() as name, refused_in_one_line(SchemaError, "a.jsonl, line "):
        written(Path(name), json.dumps(FAILED).encode(), data, *after)
        for read in (LedgerView.read, lambda folder: Deaths(folder).view()):
            read(Path(name))


@given(mutated_json(OK))
@settings(deadline=None, max_examples=50)
def test_a_damaged_line_stops_neither_writers_nor_the_progress_display(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tail = LedgerTail(folder)
        written(folder, data)
        writer = LedgerWriter(folder)
        writer.done("b", "clip@1", "ok", TimeSpent(0.1))
        writer.close()
        assert "b" in [event["id"] for event in tail.new_events()]


def test_every_kind_that_is_written_is_read(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.started("a", ["clip@1"], "extract", {"b": ["clip@1"]})
    writer.done("a", "clip@1", "ok", TimeSpent(0.5, 0.25), "odd \0 \ud800 \n text")
    writer.done("b", "clip@1", "empty", TimeSpent(0.5), "no sound")
    writer.failed("c", ["clip@1"], "decode", MediaError("not \ud800 text\0"), 0.1, 2)
    writer.decoded("a", 0.5)
    writer.died("c", ["clip@1"], "decode", "signal 9")
    writer.retry("c", ["clip@1"])
    writer.started("d", ["clip@1"], "extract")
    writer.close()
    (path,) = tmp_path.glob("*.jsonl")
    file = LedgerFile(path)
    events = [file.event(line) for line in file.new_lines()]
    assert {event["event"] for event in events} == set(KINDS)
    assert events[1]["message"] == r"odd \x00 \ud800 \n text"
