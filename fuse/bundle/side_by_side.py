"""A table and the same table computed again, cell by cell.

On equal libraries and processors each cell must be equal. On others sums are rounded in another
order, so that scores move in their last digits, and queries whose best videos are nearly tied may
change their rank: a recall may then differ by two queries, its interval by twice that, RSum by
three times that, the median rank by 1, and the mean rank by 1 %.
"""

import re
from collections.abc import Callable, Mapping, Sequence

Cells = Mapping[str, str]  # by column

QUERIES = 2  # whose rank may change on other libraries

_FACTORS = {"RSum": 3.0, "95 %": 2.0}  # of the tolerance of a recall
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def side_by_side(
    rows: Sequence[tuple[str, int, Cells, Cells]], exact: bool, say: Callable[[str], None]
) -> bool:
    """Whether each cell is the same; says both, row by row.

    rows: name, number of queries, cells as printed, and cells computed again; exact: equal, not
    just within the tolerance.
    """
    count = differing = 0
    headed: list[str] = []
    for name, queries, printed, again in rows:
        columns = [c for c in dict.fromkeys((*printed, *again)) if printed.get(c) or again.get(c)]
        texts = {c: (printed.get(c, "nothing"), again.get(c, "nothing")) for c in columns}
        bad = {c for c, pair in texts.items() if not _close(c, *pair, exact, queries)}
        count, differing = count + len(columns), differing + len(bad)
        if columns != headed:
            say(f"          {_line(columns)}")
        headed = columns
        marked = [f"! {texts[c][1]}" if c in bad else texts[c][1] for c in columns]
        say(name)
        say(f"  printed {_line([texts[c][0] for c in columns])}")
        say(f"  again   {_line(marked)}")
    rule = "equal" if exact else f"equal, or within the tolerance of {QUERIES} queries"
    verdict = f"{differing} differ (marked !)" if differing else f"each {rule}"
    say(f"{count} cells, {verdict}")
    return not differing


def _close(column: str, text: str, again: str, exact: bool, queries: int) -> bool:
    if text == again:
        return True
    numbers, others = (list(map(float, _NUMBER.findall(each))) for each in (text, again))
    if exact or len(numbers) != len(others):
        return False
    recall = 100 * QUERIES / queries
    for a, b in zip(numbers, others, strict=True):
        allowed = {"queries": 0.0, "MdR": 1.0, "MnR": 0.01 * abs(a) + 0.01}.get(
            column, recall * _FACTORS.get(column, 1.0)
        )
        if abs(a - b) > allowed + 0.051 * (column != "MnR"):  # cells are rounded to 0.1
            return False
    return True


def _line(cells: Sequence[str]) -> str:
    return " ".join(f"{cell:>14}" for cell in cells)
