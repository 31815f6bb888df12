"""The cells that a written table shows, read back from Markdown, LaTeX and HTML.

The hidden document (`records.py`) says which lines each grid has, in the order of `grid.sheet`.
"""

import html.parser
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2hf.fuse.scores.metrics import DIRECTIONS
from m2hf.fuse.tables.formats import ESCAPES
from m2hf.fuse.tables.grid import COLUMNS
from m2hf.printable import printable

Line = list[str]  # cells, the first is the name

_RULES = (r"\midrule", r"\bottomrule")


@dataclass(frozen=True)
class _Place:
    """What a line of a grid shows. block: number in the document; columns: scoring methods, of a
    subset's line; one name, of a row's line; nothing, of a heading and of the paper's line."""

    block: int
    direction: str = ""
    subset: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class VisibleRow:
    """The cells of a row by direction and column; problem: why they can't be found, or ""."""

    cells: Mapping[tuple[str, str], str]
    problem: str = ""


def visible_row(
    text: str, suffix: str, document: Mapping[str, Any], block: int, record: Mapping[str, Any]
) -> VisibleRow | None:
    """The cells that `text` shows of the row of `record` in a block, unescaped as far as numbers
    go; None for formats that show their records."""
    if suffix not in _READERS:
        return None
    wanted = list(_grids(document))
    grids = _READERS[suffix](text)[: len(wanted)]
    if [len(grid) for grid in grids] != [len(places) for places in wanted]:
        return VisibleRow({}, "the printed table has other lines than its record")
    found: dict[tuple[str, str], str] = {}
    for grid, places in zip(grids, wanted, strict=True):
        for line, place in zip(grid, places, strict=True):
            if place.block != block or place.subset != record["subset"]:
                continue
            if place.subset and record["scoring"] in place.columns:
                if len(line) != len(place.columns) + 2:
                    return VisibleRow({}, f"the line {line[0]!r} has {len(line)} cells")
                cell = line[1 + place.columns.index(record["scoring"])]
                found |= {
                    (place.direction, "R@1"): cell,
                    (place.direction, "queries"): line[-1],
                }
            elif not place.subset and place.columns == (record["name"],):
                name = ESCAPES.get(suffix, str)(record["name"])
                if not line[0].startswith((name, printable(name))):
                    return VisibleRow({}, f"the line of {record['name']!r} is named {line[0]!r}")
                if len(line) - 1 not in (len(COLUMNS) - 1, len(COLUMNS)):
                    return VisibleRow({}, f"the line {line[0]!r} has {len(line)} cells")
                found |= {
                    (place.direction, column): cell
                    for column, cell in zip(COLUMNS, line[1:], strict=False)
                }
    return VisibleRow(found)


def _grids(document: Mapping[str, Any]) -> Iterator[list[_Place]]:
    """The places of each grid's lines."""
    first = 0
    for part in document["parts"]:
        blocks = list(enumerate(part["blocks"], start=first))
        first += len(blocks)
        for direction in DIRECTIONS:
            lines: list[_Place] = []
            for number, block in blocks:
                rows = [r for r in block["rows"] if not r["subset"] and r["direction"] == direction]
                lines += [_Place(-1)] if block["label"] and rows else []
                lines += [_Place(number, direction, "", (row["name"],)) for row in rows]
            headings = sum(not place.columns for place in lines)
            of_paper = [_Place(-1)] if part.get("paper") and direction == "t2v" else []
            if len(lines) > headings or of_paper:
                yield lines + of_paper
        for number, block in blocks:
            rows = [row for row in block["rows"] if row["subset"]]
            columns = tuple(dict.fromkeys(row["scoring"] for row in rows))
            subsets = dict.fromkeys(row["subset"] for row in rows)
            have = {(row["direction"], row["subset"]) for row in rows}
            if rows:
                yield [
                    _Place(number, direction, subset, columns)
                    for direction in DIRECTIONS
                    for subset in subsets
                    if (direction, subset) in have
                ]


def _markdown(text: str) -> list[list[Line]]:
    grids: list[list[Line]] = [[]]
    for line in text.split("\n"):
        if line.startswith("|"):
            cells = re.split(r"(?<= )\|", line.removeprefix("|").removesuffix("|"))
            grids[-1].append([cell.strip() for cell in cells])
        elif grids[-1]:
            grids.append([])
    return [grid[2:] for grid in grids if grid]  # without head and rule


def _latex(text: str) -> list[list[Line]]:
    grids: list[list[Line]] = []
    inside = False
    for line in text.split("\n"):
        if line in _RULES:
            inside = line == _RULES[0]
            grids += [[]] if inside else []
        elif inside:
            cells = line.removesuffix(r" \\").replace(r"$\pm$", "±").split(" & ")
            grids[-1].append(cells)
    return grids


class _Tables(html.parser.HTMLParser):
    """Collects the cells of each table's body."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[Line]] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif "tbody" in self._open and tag == "tr":
            self.tables[-1].append([])
        elif self._in_cell and tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            del self._open[len(self._open) - 1 - self._open[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        if self._in_cell and {"th", "td"} & set(self._open):
            self.tables[-1][-1][-1] += data

    @property
    def _in_cell(self) -> bool:
        return {"table", "tbody", "tr"} <= set(self._open) and bool(self.tables[-1])


def _html(text: str) -> list[list[Line]]:
    tables = _Tables()
    tables.feed(text)
    return tables.tables


_READERS: dict[str, Callable[[str], list[list[Line]]]] = {
    ".md": _markdown,
    ".tex": _latex,
    ".html": _html,
}
