"""Events of a ledger as its files hold them: one JSON object a line, read strictly.

`event` is what happened, one of `KINDS`; `id` and `streams` say to what, `t` when in seconds.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2hf.errors import SchemaError
from m2hf.plain_data import json_object, read_bytes, shown

# event -> the fields that it has in addition to id, streams and t
KINDS: Mapping[str, tuple[str, ...]] = {
    "started": ("stage",),
    "ok": ("seconds",),
    "empty": ("seconds",),
    "decoded": ("seconds",),
    "failed": ("stage", "class", "message", "attempt", "seconds"),
    "died": ("stage", "message"),
    "retry": (),
    "interrupted": (),
}
_OPTIONAL = {"started": ("beside",), "ok": ("model_seconds", "message")}
_OPTIONAL["empty"] = _OPTIONAL["ok"]
_TAIL_BYTES = 1 << 16  # read at the end of a file for its last line
_MOST_SECONDS = 1e11  # the year 5138: a later time would be the start of all later events


def read_events(path: Path, marks: Sequence[bytes] = (b"",)) -> list[dict[str, Any]]:
    """The events in the lines of a file that contain any of `marks`, and in its last line.

    A last line without a line end, which a kill in the middle of writing leaves, is left out.
    Raises SchemaError naming the line for one that isn't an event, UsageError for a file without
    read permission.
    """
    data = read_bytes(path, str(path), SchemaError)
    lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
    chosen = [at for at, line in enumerate(lines[:-1]) if any(mark in line for mark in marks)]
    chosen += [len(lines) - 1] if lines else []
    return [parse_event(lines[at], f"{path}, line {at + 1}") for at in chosen]


def parse_event(line: bytes, where: str) -> dict[str, Any]:
    """The event in a line; raises SchemaError, whose message starts with `where`."""
    where = f"{where} (remove the line to forget the outcome that it records)"
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise SchemaError(f"{where}: not UTF-8 (byte {error.start})") from error
    event = json_object(text, where, SchemaError)
    kind = event.get("event")
    if not isinstance(kind, str) or kind not in KINDS:
        raise SchemaError(f"{where}: event = {shown(kind)}, expected one of {', '.join(KINDS)}")
    needed = ("id", "streams", "t", *KINDS[kind])
    for name in (*needed, *_OPTIONAL.get(kind, ())):
        if name not in event and name not in needed:
            continue
        holds, expected = _FIELDS[name]
        if not holds(event.get(name)):
            have = shown(event[name]) if name in event else "absent"
            raise SchemaError(f"{where}: {name} of event {kind} is {have}, expected {expected}")
    return event


def last_event(path: Path) -> dict[str, Any]:
    """The last whole line of a ledger file; {} where there is none, or the file is another kind.

    Its `t` is the greatest in the file.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            if tail.count(b"\n") < 2 and size > _TAIL_BYTES:  # a longer line
                file.seek(0)
                tail = file.read()
        line = tail[: tail.rfind(b"\n")].rpartition(b"\n")[2]
        return parse_event(line, str(path))
    except (OSError, SchemaError):  # no line yet, or a file of something else
        return {}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_seconds(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < _MOST_SECONDS  # type: ignore[operator]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_items(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_texts, value.values()))


# field -> what holds for its value, and how a message says it
_FIELDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("id", "stage", "class", "message"), (_is_text, "a text")),
    **dict.fromkeys(("t", "seconds", "model_seconds"), (_is_seconds, "seconds from 0 to 1e11")),
    "streams": (_is_texts, "a list of names"),
    "attempt": (_is_count, "a number from 0"),
    "beside": (_is_items, "an object of lists of names by id"),
}
