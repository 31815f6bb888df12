"""Structure-aware damage to plain data: what readers of a file must refuse, or accept, in one line.

A mutation keeps the structure and changes one place: a value of another type, a huge number, a key
that is gone, new or double, deep nesting, or bytes of the text itself.
"""

import copy
import json
import string
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.fuzz.damage import HOSTILE, places
from hypothesis import strategies as st


@contextmanager
def refused_in_one_line(error: type[Exception], said: str = "") -> Iterator[None]:
    """`error` may be raised inside, if its message is one line that contains `said`."""
    try:
        yield
    except error as raised:
        if "\n" in str(raised) or said not in str(raised):
            raise AssertionError(f"expected one line with {said!r}: {raised}") from raised


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """`value` with one to three places changed."""
    found = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([p for p in places(found) if p] or [()]))
        if not path:
            return draw(st.sampled_from(HOSTILE))
        holder = found
        for key in path[:-1]:
            holder = holder[key]
        how = draw(st.sampled_from(("replace", "remove", "add", "nest")))
        if how == "replace":
            holder[path[-1]] = copy.deepcopy(draw(st.sampled_from(HOSTILE)))
        elif how == "remove":
            del holder[path[-1]]
        elif how == "nest":
            holder[path[-1]] = [holder[path[-1]]]
        elif isinstance(holder, dict):
            name = draw(st.text(string.printable, max_size=8))
            holder[name] = copy.deepcopy(draw(st.sampled_from(HOSTILE)))
    return found


@st.composite
def mutated_json(draw: st.DrawFn, value: Any) -> bytes:
    """JSON text of `value` after one mutation, of the data or of the text."""
    how = draw(st.sampled_from(("data", "data", "data", "bytes", "double", "deep", "number")))
    text = json.dumps(draw(mutated(value)) if how == "data" else value)
    data = text.encode()
    at = draw(st.integers(0, len(data) - 1))
    if how == "bytes":
        data = data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 3)) :]
    elif how == "double" and isinstance(value, dict) and value:
        name = draw(st.sampled_from(sorted(value)))
        data = f"{text[:-1]}, {json.dumps(name)}: {json.dumps(value[name])}}}".encode()
    elif how == "deep":
        data = b'{"a": ' * 100_000 if draw(st.booleans()) else b"[" * 100_000
    elif how == "number":
        huge = draw(st.sampled_from(("9" * 5000, "1e999", "-1e999", "NaN", "Infinity")))
        data = text.replace(": ", f': {huge}, "z": ', 1).encode()
    return data
