"""Damage to a file, by a seeded generator: to its bytes, to its lines, or to the plain data in it.

Damage to plain data keeps the structure and changes one to three places: a value of another type,
a huge number, a key that is gone, new or double, deep nesting.
"""

import copy
import csv
import io
import json
import tomllib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import tomli_w

Damage = Callable[[Random, bytes], bytes]

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 10**9, 10**30, 2**63, -(10**400), 1.5, 1e300, "", "x", "0",
    "a\0b", "\ud800", "a\nb", "x" * 600, "\u202e", [], [[]], {}, {"a": 1}, [1, "x"], "1e9",
)  # fmt: skip
_NUMBERS = ("9" * 5000, "1e999", "-1e999", "NaN", "Infinity")
_DEEP = 100_000
_LONGEST = 64  # bytes of a range that is damaged


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside `value`, and of `value` itself."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from places(inner, (*path, at))


def of_bytes(random: Random, data: bytes) -> bytes:
    """Bits flipped, the end or a range cut, zeroed, doubled, moved, or random bytes put in."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        at = random.randrange(len(changed) + 1)
        end = min(at + random.randint(1, _LONGEST), len(changed))
        part = bytes(changed[at:end])
        match random.choice(("flip", "flip", "flip", "cut", "drop", "zero", "double", "random")):
            case "flip" if part:
                changed[at] ^= 1 << random.randrange(8)
            case "cut":
                del changed[at:]
            case "drop":
                del changed[at:end]
            case "zero":
                changed[at:end] = bytes(len(part))
            case "double":
                changed[at:at] = part
            case "random":
                changed[at:end] = random.randbytes(len(part))
    return bytes(changed)


def of_plain_data(random: Random, value: Any) -> Any:
    """A copy of `value` with one to three places changed."""
    found = copy.deepcopy(value)
    for _ in range(random.randint(1, 3)):
        inner = [path for path in places(found) if path]
        if not inner:
            return random.choice(HOSTILE)
        *way, key = random.choice(inner)
        holder = found
        for step in way:
            holder = holder[step]
        match random.choice(("replace", "replace", "remove", "add", "nest")):
            case "replace":
                holder[key] = copy.deepcopy(random.choice(HOSTILE))
            case "remove":
                del holder[key]
            case "nest":
                holder[key] = [holder[key]]
            case _ if isinstance(holder, dict):
                holder[random.choice(("", "x", "schema", "id"))] = random.choice(HOSTILE)
    return found


def of_json(random: Random, data: bytes) -> bytes:
    """JSON of changed data, or changed text of it."""
    match random.choice(("data", "data", "data", "data", "bytes", "number", "double", "deep")):
        case "data":
            return json.dumps(of_plain_data(random, json.loads(data))).encode()
        case "bytes":
            return of_bytes(random, data)
        case "number":
            return _at_a_value(random, data, random.choice(_NUMBERS).encode())
        case "double":
            return data.replace(b"{", b'{"id": 1, "id": 1, "schema": 1, ', 1)
        case _:
            return random.choice((b'{"a": ', b"[")) * _DEEP


def of_toml(random: Random, data: bytes) -> bytes:
    """TOML of changed data where TOML can hold it, or changed text of it."""
    if random.random() < 0.6:
        try:
            changed = of_plain_data(random, tomllib.loads(data.decode()))
            return tomli_w.dumps(changed).encode()
        except (TypeError, ValueError, AttributeError, UnicodeEncodeError):
            pass
    if random.random() < 0.2:
        return data + b"\nx = " + random.choice((b"[" * _DEEP, b"9" * 5000, b"{a=" * _DEEP))
    return of_lines(of_bytes)(random, data)


def of_csv(random: Random, data: bytes) -> bytes:
    """CSV with changed fields, or changed text of it."""
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    if random.random() < 0.5 and rows:
        row = random.choice(rows)
        hostile = random.choice((*HOSTILE, "x" * 200_000, '"', "=1+1", "a,b", "9" * 5000))
        row[random.randrange(len(row)) :] = [_text(hostile)] * random.randint(0, 3)
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        return text.getvalue().encode(errors="surrogatepass")
    return of_lines(of_bytes)(random, data)


def of_lines(inner: Damage) -> Damage:
    """Damage to lines: one is damaged by `inner`, or is gone, double, moved, or cut short."""

    def damage(random: Random, data: bytes) -> bytes:
        lines = data.splitlines(keepends=True) or [b""]
        at = random.randrange(len(lines))
        match random.choice(("inner", "inner", "inner", "gone", "double", "moved", "cut")):
            case "inner":
                body = lines[at].rstrip(b"\r\n")
                lines[at] = inner(random, body) + lines[at][len(body) :]
            case "gone":
                del lines[at]
            case "double":
                lines.insert(at, lines[at])
            case "moved":
                lines.insert(random.randrange(len(lines)), lines.pop(at))
            case _:
                lines[at] = lines[at][: random.randrange(len(lines[at]) + 1)]
        return b"".join(lines)

    return damage


def _at_a_value(random: Random, data: bytes, text: bytes) -> bytes:
    colons = [at for at, byte in enumerate(data) if byte in b":,"] or [0]
    at = random.choice(colons) + 1
    return data[:at] + text + b"," + data[at:]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
