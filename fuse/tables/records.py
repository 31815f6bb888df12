"""A table as plain records: a flat object for each row and direction, for JSON and CSV.

Numbers are rounded to six decimals, which removes the last bits that differ between machines and
keeps every digit worth quoting.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from m2hf.fuse.tables.table import MEASURES, AggregateMetrics, Table, TablePart, TableRow

SCHEMA = "m2hf.table"
VERSION = 1

_DECIMALS = 6
_BOUNDED = tuple(name for name in MEASURES if name != "RSum")  # they depend on ties


def records(table: Table) -> Iterator[dict[str, Any]]:
    """One object per row and direction: name, direction, the measures in percent or ranks, each
    also for the worst and the best order of ties, and its data set, block and digest."""
    for part, block, row in table.rows():
        where = {"data": part.title, "block": block.label, "digest": block.digest}
        yield from (record | where for record in row_records(row))


def document(table: Table) -> dict[str, Any]:
    """The whole table as plain data: records by block, notes, and chains by digest."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "chains": {block.digest: block.chain for part in table.parts for block in part.blocks},
        "parts": [
            {
                "data": part.title,
                "notes": list(part.notes),
                "paper": _paper(part),
                "blocks": [
                    {
                        "label": block.label,
                        "digest": block.digest,
                        "rows": [record for row in block.rows for record in row_records(row)],
                    }
                    for block in part.blocks
                ],
            }
            for part in table.parts
        ],
    }


def json_text(value: object) -> str:
    """Readable JSON with a final line break; equal values give equal bytes."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def csv_text(table: Table) -> str:
    """One line per row and direction; lists are joined by semicolons."""
    text = io.StringIO()
    columns = [*_head(), "flags", "notes"]
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for part, block, row in table.rows():
        notes = [*(flag.note for flag in row.flags), *part.notes]
        where = {"data": part.title, "block": block.label, "digest": block.digest}
        for record in row_records(row):
            record |= where
            record["R@1_low"], record["R@1_high"] = record.pop("ci")
            joined = {"flags": "; ".join(record["flags"]), "notes": "; ".join(notes)}
            writer.writerow(record | joined)
    return text.getvalue()


def row_records(row: TableRow) -> Iterator[dict[str, Any]]:
    """One object per direction, without data set, block and digest."""
    for direction, metrics in row.metrics.items():
        yield {
            "name": row.name,
            "direction": direction,
            **_numbers(metrics),
            "queries": metrics.queries,
            "candidates": metrics.candidates,
            "runs": len(metrics.runs),
            **_comparison(row, direction, metrics),
            "flags": list(dict.fromkeys(flag.name for flag in row.flags)),
            "scoring": row.scoring,
            "subset": row.subset,
        }


def _numbers(metrics: AggregateMetrics) -> dict[str, Any]:
    values: dict[str, Any] = {name: _rounded(metrics.mean[name]) for name in MEASURES}
    for name in _BOUNDED:
        for end in ("worst", "best"):
            values[f"{name}_{end}"] = _rounded(metrics.mean[f"{name}_{end}"])
    values["ci"] = [_rounded(end) for end in metrics.interval]
    values |= {f"{name}_sd": _rounded(value) for name, value in metrics.deviation.items()}
    return values


def _comparison(row: TableRow, direction: str, metrics: AggregateMetrics) -> dict[str, float]:
    """The paper's T2V R@1, and the difference of ours to it."""
    if row.paper is None or direction != "t2v":
        return {}
    return {
        "paper": row.paper.recall,
        "paper_journal": row.paper.journal,
        "difference": _rounded(metrics.mean["R@1"] - row.paper.recall),
    }


def _paper(part: TablePart) -> Mapping[str, Any] | None:
    if part.paper is None:
        return None
    result, comparable = part.paper
    return {
        "benchmark": result.benchmark,
        "R@1": result.recall,
        "R@1_journal": result.journal,
        "comparable": comparable,
    }


def _head() -> list[str]:
    numbers = []
    for name in MEASURES:
        numbers += [name, f"{name}_sd"]
        numbers += [f"{name}_worst", f"{name}_best"] if name in _BOUNDED else []
        numbers += ["R@1_low", "R@1_high"] if name == "R@1" else []
    about = ["data", "block", "name", "scoring", "subset", "direction"]
    context = ["queries", "candidates", "runs", "paper", "paper_journal", "difference", "digest"]
    return [*about, *numbers, *context]


def _rounded(value: float) -> float:
    return round(value, _DECIMALS) + 0.0  # no -0.0
