"""Read a CSV file of any common separator strictly: nothing of a line is dropped in silence.

A line must have as many fields as the header, and quotes must be closed and doubled inside. The
separator is that with which the header has the expected columns. Every problem is collected.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from m2hf.data_manifests.problems import Problems, Remark, quoted
from m2hf.errors import ManifestError
from m2hf.printable import printable

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MOST_UNREADABLE = 1000  # lines with bad quotes after which the rest isn't read
_QUOTE_IT = 'put a field that has a separator or a quote in quotes, and double a quote in it: ""'
_COMPLETE_IT = "give each line the fields of the header, with the header's separator"
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}  # fmt: skip
_SAVE = 'save it as UTF-8 (in Excel: "CSV UTF-8")'


@dataclass(frozen=True)
class CsvRow:
    """One row: the line it begins in, its fields by column, and the lines of the file after the
    first that it covers, where a quoted field has line breaks."""

    line: int
    fields: dict[str, str]
    continued: tuple[str, ...]


@dataclass(frozen=True)
class CsvTable:
    """The columns and rows of a file, and the character that separates its fields."""

    columns: tuple[str, ...]
    rows: tuple[CsvRow, ...]
    separator: str

    def remarks(self, name: str) -> list[Remark]:
        """What to tell the user of the form of the file `name`: a separator other than commas."""
        if self.separator == ",":
            return []
        return [Remark(f"{name}: fields are separated by {_SEPARATORS[self.separator]}")]


def decode_utf8(path: Path, data: bytes) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises ManifestError for another encoding, with the lines that are not UTF-8.
    """
    mark = next((mark for mark in _MARKS if data.startswith(mark)), None)
    if mark is not None:
        raise ManifestError(
            f"{path}, line 1: not UTF-8 but {_MARKS[mark]}, by its byte order mark; {_SAVE}"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ManifestError(
            f"{path}, line {line}: has a NUL character: not UTF-8 text but perhaps UTF-16 without "
            f"a byte order mark; {_SAVE}"
        )
    return text


def read_table(path: Path, text: str, needed: Sequence[str], problems: Problems) -> CsvTable:
    """The rows of `text`, the content of the CSV file at `path`; bad lines go to `problems`.

    needed: columns that the header must have. Raises ManifestError for another header.
    """
    lines = list(io.StringIO(text, newline=""))
    first = next((at for at, line in enumerate(lines) if line.strip()), len(lines))
    if first < len(lines) and lines[first].strip().lower().startswith("sep="):
        first += 1  # Excel's own line
    header_line = lines[first] if first < len(lines) else ""
    separator, columns = _header(path, first + 1, header_line, needed)
    rows = []
    for line, fields, continued in _records(lines, first + 1, separator, problems):
        row = _row(line, fields, columns, needed, problems)
        if row is not None:
            rows.append(CsvRow(line, row, continued))
    return CsvTable(columns, tuple(rows), separator)


def _header(path: Path, line: int, text: str, needed: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    for separator in _SEPARATORS:
        columns = tuple(name.strip() for name in _fields(text, separator))
        if set(needed) <= set(columns):
            twice = [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]
            if twice:
                raise ManifestError(
                    printable(f"{path}, line {line}: column {twice[0]} occurs twice; remove one")
                )
            return separator, columns
    have = printable(quoted(text.strip())[1:-1])
    raise ManifestError(
        f"{path}, line {line}: the header is {have}, expected {','.join(needed)}, separated by "
        "commas, semicolons or tabs; add it as the first line"
    )


def _fields(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


class _Lines:
    """An iterator over lines that can be set back: `at` is the index of the next one."""

    def __init__(self, lines: list[str], at: int) -> None:
        self.lines, self.at = lines, at

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.at >= len(self.lines):
            raise StopIteration
        self.at += 1
        return self.lines[self.at - 1]


def _records(
    lines: list[str], start: int, separator: str, problems: Problems
) -> Iterator[tuple[int, list[str], tuple[str, ...]]]:
    """(line number, fields, continued lines) of each record; after one with bad quotes, reading
    resumes in the next line."""
    source = _Lines(lines, start)
    reader = csv.reader(source, delimiter=separator, strict=True)
    unreadable = 0
    while True:
        at = source.at
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(at + 1, _csv_problem(str(error)), _QUOTE_IT)
            unreadable += 1
            if unreadable == _MOST_UNREADABLE:
                problems.add(at + 2, "the rest is not read after so many problems", _QUOTE_IT)
                return
            source.at = at + 1
            reader = csv.reader(source, delimiter=separator, strict=True)
            continue
        yield at + 1, fields, tuple(lines[at + 1 : source.at])


def _csv_problem(error: str) -> str:
    if "field larger" in error:
        most = csv.field_size_limit()
        return (
            f"a field of more than {most} characters; either it is too long, or its quote is open"
        )
    if "end of data" in error:
        return "a quote is opened and never closed"
    if "expected after" in error:
        return "text follows a closing quote"
    return f"not CSV ({error})"


def _row(
    line: int,
    fields: list[str],
    columns: tuple[str, ...],
    needed: Sequence[str],
    problems: Problems,
) -> dict[str, str] | None:
    """The fields by column, absent ones empty; None for a blank line and for one with a problem."""
    if not any(field.strip() for field in fields):
        return None
    if len(fields) > len(columns):
        what = f"{len(fields)} fields, more than the {len(columns)} of the header"
        problems.add(line, what, _QUOTE_IT)
        return None
    pairs = list(zip_longest(columns, fields, fillvalue=""))
    absent = [name for name in needed if name not in columns[: len(fields)]]
    if absent:
        problems.add(line, f"no {' and no '.join(absent)}: the line is too short", _COMPLETE_IT)
        return None
    unnamed = [field for name, field in pairs if not name and field.strip()]
    if unnamed:
        problems.add(line, f"{quoted(unnamed[0])} is in a column without a name", _QUOTE_IT)
        return None
    return {name: field for name, field in pairs if name}


def _not_utf8(path: Path, data: bytes) -> ManifestError:
    problems = Problems(path)
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            around = line[max(0, error.start - 20) : error.start + 20]
            guess = around.decode("cp1252", errors="replace").strip()
            problems.add(number, f"not UTF-8; as Windows-1252 it has {quoted(guess)}", _SAVE)
    return problems.error()
