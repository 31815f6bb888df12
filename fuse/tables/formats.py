"""A table as text: Markdown, LaTeX, CSV, JSON and a page. Equal tables give equal bytes.

All but CSV and JSON also carry the table's document (`records.py`), hidden in a comment, so that
`m2hf trace` can trace their numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any

from m2hf.errors import UsageError
from m2hf.fuse.tables.grid import Grid, GridLine, Sheet, sheet
from m2hf.fuse.tables.records import SCHEMA, csv_text, document, json_text
from m2hf.fuse.tables.table import Table
from m2hf.keys import canonical_json
from m2hf.plain_data import json_value

# Keys of a record that a trace prints.
TRACED = (
    "name", "direction", "scoring", "subset", "R@1", "ci", "MnR", "queries", "candidates", "flags",
)  # fmt: skip
_MARKER = f"{SCHEMA}: "
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''",
}  # fmt: skip


def render(table: Table, suffix: str) -> str:
    """The table in the format of `suffix`, such as ".md"; raises UsageError for other suffixes."""
    return _format(suffix)(table)


def check_suffix(suffix: str) -> None:
    """Raises UsageError for a suffix that is no table format."""
    _format(suffix)


def embedded(text: str, suffix: str) -> Any:
    """The document inside a table's text, parsed; raises UsageError if there is none."""
    if suffix != ".json":
        opened = (f"<!-- {_MARKER}", f"% {_MARKER}")  # at the start of a line, where no name can be
        line = next((line for line in text.split("\n") if line.startswith(opened)), "")
        text = line.partition(_MARKER)[2]
    return json_value(text, "document")


def markdown(table: Table) -> str:
    """The table as Markdown without the document: what `m2hf tables` prints."""
    return "\n".join(markdown_sheet(sheet(part)) for part in table.parts)


def markdown_sheet(part: Sheet) -> str:
    """A sheet as Markdown."""
    lines = [f"### {_plain(part.title)}", ""]
    for grid in part.grids:
        lines += [f"**{_plain(grid.title)}**", "", *_markdown_grid(grid), ""]
    lines += [f"{number}. {_plain(note)}" for number, note in enumerate(part.footnotes, 1)]
    lines += [""] if part.footnotes else []
    return "\n".join([*lines, *(f"- {_plain(note)}" for note in part.notes), ""])


def _format(suffix: str) -> Callable[[Table], str]:
    if suffix not in FORMATS:
        raise UsageError(f"no table format {suffix!r}; formats are {', '.join(FORMATS)}")
    return FORMATS[suffix]


def _markdown_file(table: Table) -> str:
    return f"{markdown(table)}\n<!-- {hidden(table)}\n-->\n"


def _markdown_grid(grid: Grid) -> list[str]:
    """Cells are padded, so that columns are aligned in a terminal too."""
    rows = [[_plain(name) for name in grid.head]]
    for line in grid.lines:
        marks = "".join(f" [{mark}]" for mark in line.marks)
        name = f"**{_plain(line.name)}**" if line.heading else _plain(line.name) + marks
        rows.append([name, *map(_plain, line.cells or ("",) * (len(grid.head) - 1))])
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in (*rows, rule)
    ]
    return ["| " + " | ".join(row) + " |" for row in (aligned[0], aligned[-1], *aligned[1:-1])]


def _plain(text: str) -> str:
    """Escape the special characters of Markdown and HTML."""
    for character in "\\|*`<>":
        text = text.replace(character, f"\\{character}")
    return text


def _latex(table: Table) -> str:
    lines = ["% \\usepackage{booktabs}", f"% {hidden(table)}"]
    for part in map(sheet, table.parts):
        for number, grid in enumerate(part.grids):
            lines += ["", *_latex_grid(part, grid, part.notes if not number else ())]
    return "\n".join([*lines, ""])


def _latex_grid(part: Sheet, grid: Grid, below: Sequence[str]) -> list[str]:
    columns = len(grid.head)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(part.title)}: {_tex(grid.title)}}}",
        rf"\begin{{tabular}}{{l{'r' * (columns - 1)}}}",
        r"\toprule",
        " & ".join(map(_tex, grid.head)) + r" \\",
        r"\midrule",
        *(_latex_line(line, columns) for line in grid.lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    used = {mark for line in grid.lines for mark in line.marks}
    notes = [
        rf"\textsuperscript{{{number}}} {_tex(note)}"
        for number, note in enumerate(part.footnotes, 1)
        if number in used
    ]
    lines += [rf"\par\footnotesize {text}" for text in [*notes, *map(_tex, below)]]
    return [*lines, r"\end{table}"]


def _latex_line(line: GridLine, columns: int) -> str:
    if line.heading:
        return rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{_tex(line.name)}}}}} \\"
    marks = "".join(rf"\textsuperscript{{{mark}}}" for mark in line.marks)
    return " & ".join([_tex(line.name) + marks, *map(_tex, line.cells)]) + r" \\"


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _page(table: Table) -> str:
    from m2hf.fuse.tables.page import page

    return page([sheet(part) for part in table.parts], document(table), hidden(table))


def hidden(table: Table) -> str:
    """The document in one line that can't end a comment, reduced to the keys that a trace
    prints."""
    whole = document(table)
    for part in whole["parts"]:
        for block in part["blocks"]:
            block["rows"] = [{key: row[key] for key in TRACED} for row in block["rows"]]
    text = canonical_json(whole)
    return _MARKER + text.replace("<", "\\u003c").replace(">", "\\u003e").replace("--", "-\\u002d")


FORMATS: dict[str, Callable[[Table], str]] = {
    ".md": _markdown_file,
    ".tex": _latex,
    ".csv": csv_text,
    ".json": lambda table: json_text(document(table)),
    ".html": _page,
}

ESCAPES: dict[str, Callable[[str], str]] = {".md": _plain, ".tex": _tex}
