"""Ground truth of a given matrix: the column that each row belongs to, and ids of rows and columns.

Without a file, row i belongs to column i. A queries file has one entry per row, in the order of the
rows: a column number from 0, or a video id where the columns have ids.

    FILE.json     a list, such as [0, 0, 1] or ["video7", "video7", "video9"]
    FILE.csv      a column `video_id`, and `query_id` where the order is not that of the rows
    other         text, one entry per line

A list of ids is a JSON list, the column `video_id` or `query_id` of a CSV, or one id per line.

Q queries (rows), V videos (columns).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2hf.array_types import IntArray
from m2hf.errors import UsageError
from m2hf.plain_data import csv_rows, json_value, read_text, shown

VIDEO, QUERY = "video_id", "query_id"
_MOST_DIGITS = 18  # of a column number; Python refuses to read thousands


@dataclass(frozen=True)
class GroundTruthFiles:
    """A queries file, and lists of ids of rows and of columns; each is optional. option: the
    command-line option of the queries file, for messages."""

    queries: Path | None = None
    query_ids: Path | None = None
    video_ids: Path | None = None
    option: str = "--queries"

    def read(self, shape: tuple[int, int]) -> "GroundTruth":
        """Read them for a matrix of this shape; raises UsageError, naming file and entry, where
        they don't fit it."""
        query_ids = _ids(self.query_ids, QUERY, shape[0], "rows")
        video_ids = _ids(self.video_ids, VIDEO, shape[1], "columns")
        if self.queries is not None:
            where = f"{self.option} {self.queries}"
            entries = _in_row_order(self.queries, where, query_ids)
            if len(entries) != shape[0]:
                raise UsageError(
                    f"{where}: {len(entries)} entries for {shape[0]} rows; give one for each row"
                )
            place = {name: column for column, name in enumerate(video_ids or ())}
            columns = [
                _column(f"{where}, entry {number}", entry, place, shape[1])
                for number, entry in enumerate(entries, start=1)
            ]
        elif shape[0] == shape[1]:
            columns = list(range(shape[0]))
        else:
            raise UsageError(
                f"{shape[0]} rows and {shape[1]} columns: row i can't belong to column i; "
                f"give the column of each row with {self.option} FILE"
            )
        return GroundTruth(np.array(columns, dtype=np.int64), query_ids, video_ids)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """video_of_query: (Q,) the column of each row; ids of rows and columns, if given."""

    video_of_query: IntArray
    query_ids: tuple[str, ...] | None
    video_ids: tuple[str, ...] | None

    def cell(self, row: int, column: int) -> str:
        """The name of a cell for messages: numbers from 0, and ids if given."""
        query = f" (query {self.query_ids[row]})" if self.query_ids else ""
        video = f" (video {self.video_ids[column]})" if self.video_ids else ""
        return f"row {row}{query}, column {column}{video}"


def _ids(path: Path | None, column: str, count: int, what: str) -> tuple[str, ...] | None:
    if path is None:
        return None
    where = f"--{column.replace('_', '-')}s {path}"
    ids = [entry for _, entry in _entries(path, where, column)]
    twice = [name for name, times in Counter(ids).items() if times > 1]
    if twice:
        raise UsageError(f"{where}: id {shown(twice[0])} occurs more than once; ids must be unique")
    if len(ids) != count:
        raise UsageError(f"{where}: {len(ids)} ids for {count} {what}; give one for each")
    return tuple(ids)


def _in_row_order(path: Path, where: str, query_ids: Sequence[str] | None) -> list[str]:
    """One entry per row: in file order, or by query id where file and rows both have ids."""
    entries = _entries(path, where, VIDEO)
    named = [query for query, _ in entries if query is not None]
    twice = [name for name, times in Counter(named).items() if times > 1]
    if twice:
        raise UsageError(
            f"{where}: query {shown(twice[0])} occurs more than once; give one video per query"
        )
    if query_ids is None or not named:
        return [entry for _, entry in entries]
    by_id = {str(query): entry for query, entry in entries}
    if strange := sorted(by_id.keys() - set(query_ids)):
        raise UsageError(f"{where}: query {shown(strange[0])} is not one of --query-ids")
    if missing := sorted(set(query_ids) - by_id.keys()):
        raise UsageError(f"{where}: no entry for query {shown(missing[0])} of --query-ids")
    return [by_id[name] for name in query_ids]


def _entries(path: Path, where: str, column: str) -> list[tuple[str | None, str]]:
    """(query id or None, entry) in the order of the file."""
    text = read_text(path, where)
    if path.suffix == ".json":
        return [(None, entry) for entry in _json_list(text, where)]
    if path.suffix == ".csv":
        return _csv_column(text, where, column)
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise UsageError(f"{where}, line {number}: empty; expected one entry per line")
    return [(None, line.strip()) for line in lines]


def _json_list(text: str, where: str) -> list[str]:
    found = json_value(text, where)
    good = isinstance(found, list) and all(type(entry) in (int, str) for entry in found)
    if not good:
        raise UsageError(f"{where}: expected a JSON list of numbers or of ids, got {shown(found)}")
    return [str(entry) for entry in found]


def _csv_column(text: str, where: str, column: str) -> list[tuple[str | None, str]]:
    found = []
    for at, row in csv_rows(text, where, (column,)):
        if not row[column]:
            raise UsageError(f"{at}: no {column}")
        found.append((row.get(QUERY) if column == VIDEO else None, row[column]))
    return found


def _column(where: str, entry: str, place: Mapping[str, int], videos: int) -> int:
    if place:
        if entry not in place:
            raise UsageError(f"{where}: video {shown(entry)} is not one of --video-ids")
        return place[entry]
    if not entry.isdecimal():
        raise UsageError(
            f"{where}: {shown(entry)} is not a column number; for ids, name the columns with "
            "--video-ids"
        )
    if len(entry) > _MOST_DIGITS or int(entry) >= videos:
        raise UsageError(f"{where}: column {shown(entry)[1:-1]} of {videos}; numbers start at 0")
    return int(entry)
