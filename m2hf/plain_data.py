"""Strict reading of TOML, JSON and CSV that may hold anything: plain data, or one clear error.

Refused, apart from what isn't TOML or JSON: text that isn't UTF-8, a NUL character or half of a
surrogate pair in a string, a key that occurs twice, NaN, infinity and numbers beyond their range in
JSON, integers of thousands of digits, and nesting too deep to read. A byte order mark is skipped.
"""

import csv
import io
import json
import math
import reprlib
import tomllib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m2hf.atomic import raise_if_unreadable
from m2hf.errors import M2hfError, UsageError
from m2hf.printable import printable

_SHOWN = 80  # characters of a value that a message quotes
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _SHOWN


def read_text(path: Path, where: str, error: type[M2hfError] = UsageError) -> str:
    """The text of a UTF-8 file; raises `error`, whose message starts with `where`, and
    UsageError for a file without read permission."""
    with _readable(path, where, error):
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as wrong:
            raise error(
                f"{where}: not UTF-8 (byte {wrong.start}); save it as UTF-8 text"
            ) from wrong


def read_bytes(
    path: Path, where: str, error: type[M2hfError] = UsageError, start: int = 0, most: int = -1
) -> bytes:
    """The content of a file, or at most `most` bytes of it from byte `start`; raises as
    `read_text`."""
    with _readable(path, where, error), path.open("rb") as file:
        file.seek(start)
        return file.read(most)


def toml(text: str, where: str, error: type[M2hfError] = UsageError) -> dict[str, Any]:
    """The table in TOML `text`; raises `error`, whose message starts with `where`."""
    found: dict[str, Any] = _parsed(tomllib.loads, text, "TOML", where, error)
    return found


def json_value(text: str, where: str, error: type[Exception] = UsageError) -> Any:
    """The value in JSON `text`; raises `error`, whose message starts with `where`."""
    return _parsed(_loads, text, "JSON", where, error)


def json_object(text: str, where: str, error: type[M2hfError] = UsageError) -> dict[str, Any]:
    """The object in JSON `text`; raises `error`, also for another value."""
    value = json_value(text, where, error)
    if not isinstance(value, dict):
        raise error(f"{where}: expected a JSON object, got {shown(value)}")
    return value


def csv_rows(
    text: str, where: str, columns: Collection[str], error: type[M2hfError] = UsageError
) -> Iterator[tuple[str, dict[str, str]]]:
    """(location, row) of each row of a CSV text, absent fields empty; raises `error` for a header
    without `columns`, a row longer than the header, and what isn't CSV."""
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True)
    try:
        header = list(reader.fieldnames or ())
        if lacking := [name for name in columns if name not in header]:
            raise error(
                f"{where}: no column {lacking[0]!r}; the header is {shown(','.join(header))}, "
                f"expected {','.join(columns)}"
            )
        for row in reader:
            at = f"{where}, line {reader.line_num}"
            if None in row:
                raise error(f"{at}: more fields than the {len(header)} of the header")
            yield at, row
    except csv.Error as wrong:
        raise error(f"{where}, line {reader.reader.line_num}: not CSV: {wrong}") from wrong


def shown(value: object) -> str:
    """`value` for a message: in one line, shortened."""
    try:
        text = _REPR.repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"a huge {type(value).__name__}"
    text = printable(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


@contextmanager
def _readable(path: Path, where: str, error: type[M2hfError]) -> Iterator[None]:
    try:
        yield
    except OSError as wrong:
        raise_if_unreadable(path, wrong)
        raise error(f"{where}: {wrong.strerror}") from wrong


def _parsed(
    parse: Callable[[str], Any], text: str, form: str, where: str, error: type[Exception]
) -> Any:
    try:
        value = parse(text)
        _check_strings(value)
    except RecursionError as wrong:
        raise error(f"{where}: not {form} that can be read: nested too deep") from wrong
    except ValueError as wrong:  # also of integers with more digits than Python converts
        raise error(f"{where}: not {form}: {printable(str(wrong))}") from wrong
    return value


def _loads(text: str) -> Any:
    return json.loads(
        text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_no_constant
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {shown(twice)} occurs twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"number {shown(text)} is beyond the range of a float")
    return number


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _check_strings(value: Any) -> None:
    """Raises ValueError for a string, also a key, that UTF-8 text can't hold or that has a NUL."""
    left = [value]
    while left:
        found = left.pop()
        if isinstance(found, dict):
            left += [*found, *found.values()]
        elif isinstance(found, list):
            left += found
        elif isinstance(found, str):
            if "\0" in found:
                raise ValueError(f"a NUL character in {shown(found)}")
            if not found.isascii():
                _check_encodes(found)


def _check_encodes(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half of a surrogate pair in {shown(text)}") from error
