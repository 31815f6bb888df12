"""The layout of a table: for each part grids of short texts, and footnotes.

Every printed format renders these grids with its own markup. There is a grid for each direction,
with the paper's line, and one of R@1 by subset of the queries. Recalls have one decimal, as in
papers; the worst and best order of ties follows in brackets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from m2hf.fuse.scores.metrics import DIRECTIONS
from m2hf.fuse.tables.bootstrap import LEVEL
from m2hf.fuse.tables.paper import SOURCE, PaperResult
from m2hf.fuse.tables.table import RECALLS, AggregateMetrics, Flag, TablePart, TableRow

SHORT = 12  # printed hex digits of a digest

_TITLES = {"t2v": "Text to video", "v2t": "Video to text"}
_INTERVAL = f"{LEVEL} %"
_MEASURES = ("R@1", _INTERVAL, *RECALLS[1:], "RSum", "MdR", "MnR")
COMPARED = "vs. paper"
COLUMNS = (*_MEASURES, COMPARED)  # of a direction's grid; the last one where a row is compared


@dataclass(frozen=True)
class GridLine:
    """A line of a grid. cells: all columns but the first, which is the name; marks: numbers of
    footnotes on the name; heading: the label of a block, without cells."""

    name: str
    cells: tuple[str, ...] = ()
    marks: tuple[int, ...] = ()
    heading: bool = False


@dataclass(frozen=True)
class Grid:
    """A titled table: column names, and lines."""

    title: str
    head: tuple[str, ...]
    lines: tuple[GridLine, ...]


@dataclass(frozen=True)
class Sheet:
    """The layout of a part: grids, then footnotes numbered from 1, then notes."""

    title: str
    grids: tuple[Grid, ...]
    footnotes: tuple[str, ...]
    notes: tuple[str, ...]


def sheet(part: TablePart) -> Sheet:
    """Lay out a part."""
    marks = Footnotes()
    grids = [_direction(part, direction, marks) for direction in DIRECTIONS]
    found = [*grids, *_subsets(part)]
    return Sheet(
        part.title,
        tuple(grid for grid in found if any(not line.heading for line in grid.lines)),
        tuple(marks.notes),
        (*part.notes, *_tie_note(part), *_units_note(part), *_paper_note(part), *_digests(part)),
    )


def row_cells(row: TableRow, direction: str) -> dict[str, str]:
    """What grids print of a row in a direction, by column."""
    metrics = row.metrics[direction]
    if row.subset:
        return {"R@1": measured(metrics, "R@1"), "queries": f"{metrics.queries}"}
    cells = dict(zip(COLUMNS, _cells(metrics), strict=False))
    return {**cells, COMPARED: _difference(row, direction) if direction == "t2v" else ""}


class Footnotes:
    """Numbers footnotes in the order of their first use."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def of(self, flags: Sequence[Flag]) -> tuple[int, ...]:
        texts = [f"{flag.name}: {flag.note}" for flag in flags]
        self.notes += [text for text in dict.fromkeys(texts) if text not in self.notes]
        return tuple(dict.fromkeys(self.notes.index(text) + 1 for text in texts))


def _direction(part: TablePart, direction: str, marks: Footnotes) -> Grid:
    compared = direction == "t2v" and any(_whole(row) and row.paper for row in _rows(part))
    head = ("", *_MEASURES, *([COMPARED] if compared else []))
    lines: list[GridLine] = []
    for block in part.blocks:
        rows = [row for row in block.rows if direction in row.metrics and _whole(row)]
        if block.label and rows:
            lines.append(GridLine(block.label, heading=True))
        for row in rows:
            cells = [
                *_cells(row.metrics[direction]),
                *([_difference(row, direction)] if compared else []),
            ]
            lines.append(GridLine(row.name, tuple(cells), marks.of(row.flags)))
    if part.paper is not None and direction == "t2v":
        cells = [f"{part.paper[0].recall:.1f}", *[""] * (len(head) - 2)]
        lines.append(GridLine(paper_name(*part.paper), tuple(cells)))
    return Grid(_TITLES[direction], head, tuple(lines))


def paper_name(result: PaperResult, comparable: bool) -> str:
    """The name of the line with the paper's result."""
    return f"M2HF (paper, {result.benchmark}{'' if comparable else '; not comparable'})"


def _subsets(part: TablePart) -> Iterator[Grid]:
    """R@1 by subset: a line per subset and direction, a column per scoring method."""
    for block in part.blocks:
        rows = [row for row in block.rows if row.subset]
        if not rows:
            continue
        columns = list(dict.fromkeys(row.scoring for row in rows))
        lines = []
        for direction in DIRECTIONS:
            for subset in dict.fromkeys(row.subset for row in rows):
                chosen = [r for r in rows if r.subset == subset and direction in r.metrics]
                found = {row.scoring: row.metrics[direction] for row in chosen}
                if not found:  # rows by kind of query have only T2V
                    continue
                queries = next(iter(found.values())).queries
                cells = [measured(found[name], "R@1") for name in columns]
                lines.append(GridLine(f"{direction.upper()}, {subset}", (*cells, f"{queries}")))
        label = f": {block.label}" if block.label else ""
        yield Grid(f"R@1 by subset of the queries{label}", ("", *columns, "queries"), tuple(lines))


def _rows(part: TablePart) -> Iterator[TableRow]:
    return (row for block in part.blocks for row in block.rows)


def _whole(row: TableRow) -> bool:
    return not row.subset


def _cells(metrics: AggregateMetrics) -> Iterator[str]:
    for name in _MEASURES:
        if name == _INTERVAL:
            yield f"{metrics.interval[0]:.1f} to {metrics.interval[1]:.1f}"
        else:
            yield measured(metrics, name)


def measured(metrics: AggregateMetrics, name: str) -> str:
    """A measure as printed: mean and deviation, or the spread under ties."""
    decimals = 2 if name == "MnR" else 1
    text = f"{metrics.mean[name]:.{decimals}f}"
    if metrics.deviation:
        return f"{text} ± {metrics.deviation[name]:.{decimals}f}"
    if name in RECALLS and metrics.tied(name):
        return f"{text} [{metrics.mean[f'{name}_worst']:.1f}, {metrics.mean[f'{name}_best']:.1f}]"
    return text


def _difference(row: TableRow, direction: str) -> str:
    if row.paper is None:
        return ""
    return f"{row.metrics[direction].mean['R@1'] - row.paper.recall:+.1f}"


def _tie_note(part: TablePart) -> Iterator[str]:
    found = [metrics for row in _rows(part) for metrics in row.metrics.values()]
    if any(metrics.tied(name) for metrics in found for name in RECALLS):
        yield "R@K under ties: expectation over their random order [worst, best]"


def _units_note(part: TablePart) -> Iterator[str]:
    yield (
        "in percent: R@1 to R@50, the interval of R@1 (bootstrap over videos), and "
        "RSum = R@1 + R@5 + R@10; MdR and MnR are the median and the mean rank"
    )
    runs = max((len(s.runs) for row in _rows(part) for s in row.metrics.values()), default=1)
    if runs > 1:
        yield "mean ± sample deviation over runs that differ only in the seed"


def _paper_note(part: TablePart) -> Iterator[str]:
    if part.paper is not None:
        result, comparable = part.paper
        where = "" if comparable else "; on other data than ours, so the numbers are not comparable"
        yield f"paper: T2V R@1 printed in {SOURCE}, journal version {result.journal:.1f}{where}"


def _digests(part: TablePart) -> Iterator[str]:
    first = {block.digest: block for block in reversed(part.blocks)}
    for block in reversed(first.values()):
        label = f" of {block.label}" if block.label else ""
        yield f"digest{label}: {block.digest[:SHORT]}"
