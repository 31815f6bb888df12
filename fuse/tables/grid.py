"""What a reader sees of a table: for each part grids of short texts, and footnotes.

All printed formats show these; how a cell looks in Markdown or LaTeX is their matter. There is a
grid for each direction, with the paper's line, and one of R@1 by subset of the queries. Recalls
have one decimal, as papers print them; what ties could change is beside it in brackets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from m2hf.fuse.scores.metrics import DIRECTIONS
from m2hf.fuse.tables.bootstrap import LEVEL
from m2hf.fuse.tables.paper import SOURCE, PaperResult
from m2hf.fuse.tables.table import RECALLS, Flag, Part, Row, Score

SHORT = 12  # hex digits of a digest that a reader sees

_TITLES = {"t2v": "Text to video", "v2t": "Video to text"}
_INTERVAL = f"{LEVEL} %"
_MEASURES = ("R@1", _INTERVAL, *RECALLS[1:], "RSum", "MdR", "MnR")


@dataclass(frozen=True)
class Line:
    """cells: one less than the head, which names the first column; marks: numbers of footnotes
    on the name; heading: a line that opens a block and has no cells."""

    name: str
    cells: tuple[str, ...] = ()
    marks: tuple[int, ...] = ()
    heading: bool = False


@dataclass(frozen=True)
class Grid:
    """A title, a head and lines."""

    title: str
    head: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Sheet:
    """A part as it is shown: footnotes are numbered from 1, notes stand below them."""

    title: str
    grids: tuple[Grid, ...]
    footnotes: tuple[str, ...]
    notes: tuple[str, ...]


def sheet(part: Part) -> Sheet:
    """Lay out a part."""
    marks = _Footnotes()
    grids = [_direction(part, way, marks) for way in DIRECTIONS]
    found = [*grids, *_subsets(part)]
    return Sheet(
        part.title,
        tuple(grid for grid in found if any(not line.heading for line in grid.lines)),
        tuple(marks.notes),
        (*part.notes, *_tie_note(part), *_how(part), *_paper_note(part), *_digests(part)),
    )


class _Footnotes:
    """Numbers for footnotes in the order in which they are met."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def of(self, flags: Sequence[Flag]) -> tuple[int, ...]:
        texts = [f"{flag.name}: {flag.note}" for flag in flags]
        self.notes += [text for text in dict.fromkeys(texts) if text not in self.notes]
        return tuple(dict.fromkeys(self.notes.index(text) + 1 for text in texts))


def _direction(part: Part, way: str, marks: _Footnotes) -> Grid:
    compared = way == "t2v" and any(_whole(row) and row.paper for row in _rows(part))
    head = ("", *_MEASURES, *(["to the paper"] if compared else []))
    lines: list[Line] = []
    for block in part.blocks:
        rows = [row for row in block.rows if way in row.scores and _whole(row)]
        if block.label and rows:
            lines.append(Line(block.label, heading=True))
        for row in rows:
            cells = [*_cells(row.scores[way]), *([_difference(row, way)] if compared else [])]
            lines.append(Line(row.name, tuple(cells), marks.of(row.flags)))
    if part.paper is not None and way == "t2v":
        cells = [f"{part.paper[0].recall:.1f}", *[""] * (len(head) - 2)]
        lines.append(Line(paper_name(*part.paper), tuple(cells)))
    return Grid(_TITLES[way], head, tuple(lines))


def paper_name(result: PaperResult, comparable: bool) -> str:
    """The name of the paper's line."""
    return f"M2HF (paper, {result.benchmark}{'' if comparable else '; not comparable'})"


def _subsets(part: Part) -> Iterator[Grid]:
    """R@1 by subset: a line a subset and direction, a column for each way to score."""
    for block in part.blocks:
        rows = [row for row in block.rows if row.subset]
        if not rows:
            continue
        columns = list(dict.fromkeys(row.scoring for row in rows))
        lines = []
        for way in DIRECTIONS:
            for subset in dict.fromkeys(row.subset for row in rows):
                of = [r for r in rows if r.subset == subset and way in r.scores]
                found = {row.scoring: row.scores[way] for row in of}
                if not found:  # a kind of query has no other direction
                    continue
                queries = next(iter(found.values())).queries
                cells = [_measure(found[name], "R@1") for name in columns]
                lines.append(Line(f"{way.upper()}, {subset}", (*cells, f"{queries}")))
        label = f": {block.label}" if block.label else ""
        yield Grid(f"R@1 by subset of the queries{label}", ("", *columns, "queries"), tuple(lines))


def _rows(part: Part) -> Iterator[Row]:
    return (row for block in part.blocks for row in block.rows)


def _whole(row: Row) -> bool:
    return not row.subset


def _cells(score: Score) -> Iterator[str]:
    for name in _MEASURES:
        if name == _INTERVAL:
            yield f"{score.interval[0]:.1f} to {score.interval[1]:.1f}"
        else:
            yield _measure(score, name)


def _measure(score: Score, name: str) -> str:
    decimals = 2 if name == "MnR" else 1
    text = f"{score.mean[name]:.{decimals}f}"
    if score.deviation:
        return f"{text} ± {score.deviation[name]:.{decimals}f}"
    if name in RECALLS and score.tied(name):
        return f"{text} [{score.mean[f'{name}_worst']:.1f}, {score.mean[f'{name}_best']:.1f}]"
    return text


def _difference(row: Row, way: str) -> str:
    if row.paper is None:
        return ""
    return f"{row.scores[way].mean['R@1'] - row.paper.recall:+.1f}"


def _tie_note(part: Part) -> Iterator[str]:
    scores = [score for row in _rows(part) for score in row.scores.values()]
    if any(score.tied(name) for score in scores for name in RECALLS):
        yield "R@K under ties: expectation over their random order [worst, best]"


def _how(part: Part) -> Iterator[str]:
    yield (
        "in percent: R@1 to R@50, the interval of R@1 (bootstrap over videos), and "
        "RSum = R@1 + R@5 + R@10; MdR and MnR are the median and the mean rank"
    )
    runs = max((len(s.runs) for row in _rows(part) for s in row.scores.values()), default=1)
    if runs > 1:
        yield "mean ± sample deviation over runs that differ in the seed alone"


def _paper_note(part: Part) -> Iterator[str]:
    if part.paper is not None:
        result, comparable = part.paper
        where = "" if comparable else "; other data than ours, so the numbers are not comparable"
        yield f"paper: T2V R@1 printed in {SOURCE}, journal version {result.journal:.1f}{where}"


def _digests(part: Part) -> Iterator[str]:
    first = {block.digest: block for block in reversed(part.blocks)}
    for block in reversed(first.values()):
        label = f" of {block.label}" if block.label else ""
        yield f"digest{label}: {block.digest[:SHORT]}"
