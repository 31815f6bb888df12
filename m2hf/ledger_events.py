"""Events of a ledger as its files hold them: one JSON object a line, read strictly.

`event` is what happened, one of `KINDS`; `id` and `streams` say to what, `t` when in seconds.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from m2hf.errors import SchemaError
from m2hf.plain_data import json_object, shown

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
# A line as a writer writes it whose texts have no escapes: nearly all of a ledger, read ten times
# as fast as any JSON. What doesn't match is read as JSON.
_PLAIN = re.compile(
    (
        r'\{"event": "(ok|empty|decoded|started)", "id": "([^"\\\x00-\x1f]*)", '
        r'"streams": \["([^\\\x00-\x1f\[\]]*)"\], '
        r'(?:"stage": "([^"\\\x00-\x1f]*)"|"seconds": (NUMBER)(?:, "model_seconds": (NUMBER))?), '
        r'"t": (NUMBER)\}'
    ).replace("NUMBER", r"(?:0|[1-9]\d{0,9})(?:\.\d{1,9})?")
)
_TAIL_BYTES = 1 << 16  # read at the end of a file for its last line
_MOST_SECONDS = 1e11  # the year 5138: a later time would be the start of all later events


def parse_event(line: bytes, where: str) -> dict[str, Any]:
    """The event in a line; raises SchemaError, whose message starts with `where`."""
    where = f"{where} (remove the line to forget the outcome that it records)"
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise SchemaError(f"{where}: not UTF-8 (byte {error.start})") from error
    if plain := _plain_event(text):
        return plain
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


def _plain_event(text: str) -> dict[str, Any] | None:
    """The event in a line that matches `_PLAIN`; None for any other."""
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    kind, item, listed, stage, seconds, model_seconds, t = match.groups()
    streams = listed.split('", "')
    if (kind == "started") != (stage is not None) or any('"' in stream for stream in streams):
        return None
    event: dict[str, Any] = {"event": kind, "id": item, "streams": streams, "t": float(t)}
    if kind == "started":
        return event | {"stage": stage}
    if model_seconds is not None:
        event["model_seconds"] = float(model_seconds)
    return event | {"seconds": float(seconds)}


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
