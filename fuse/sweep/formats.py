"""The results of a sweep as text: one row a cell, in Markdown, CSV and JSON."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from m2hf.fuse.sweep.results import CellResult, SweepResults
from m2hf.fuse.tables.bootstrap import LEVEL
from m2hf.fuse.tables.formats import markdown_sheet
from m2hf.fuse.tables.grid import Footnotes, Grid, GridLine, Sheet, measured
from m2hf.fuse.tables.records import json_text, row_records
from m2hf.fuse.tables.table import Flag

SCHEMA = "m2hf.sweep"
VERSION = 1

_INTERVAL = f"{LEVEL} %"
_BEST = Flag("best on validation", "of the cells with all seeds; nothing is chosen on the split")
_NUMBERS = ("R@1", "R@1_sd", "R@5", "R@10", "RSum", "MdR", "MnR")


def markdown(results: SweepResults) -> str:
    """One row a cell; its notes say what cells have no result."""
    marks = Footnotes()
    versus = (f"vs. {results.base}", _INTERVAL) if results.base else ()
    head = ("cell", "val R@1", "T2V R@1", _INTERVAL, *versus, "R@5", "R@10", "MdR", "V2T R@1")
    lines = tuple(
        GridLine(cell.name, tuple(_cells(cell, bool(versus))), marks.of(_flags(cell)))
        for cell in results.cells
    )
    grid = Grid("Late fusion, a row a cell", head, lines)
    (part, *_) = results.table.parts
    return markdown_sheet(Sheet(part.title, (grid,), tuple(marks.notes), tuple(_notes(results))))


def json(results: SweepResults) -> str:
    """Everything: the settings of each cell are those of its runs' config.json."""
    document = {
        "schema": SCHEMA,
        "version": VERSION,
        "data": results.table.parts[0].title,
        "base": results.base,
        "cells": [_record(cell) for cell in results.cells],
        "without_result": dict(results.lacking),
    }
    return json_text(document)


def csv_text(results: SweepResults) -> str:
    """One line a cell: means and deviations in percent or ranks, by direction."""
    text = io.StringIO()
    measures = [f"{direction}_{name}" for direction in ("t2v", "v2t") for name in _NUMBERS]
    compared = ["difference", "difference_low", "difference_high"]
    about = ["cell", "seeds", "val_R@1", "val_R@1_sd", "best_on_validation"]
    columns = [*about, *measures[:1], "t2v_R@1_low", "t2v_R@1_high", *measures[1:], *compared]
    writer = csv.DictWriter(text, [*columns, "digest"], lineterminator="\n", restval="")
    writer.writeheader()
    for cell in results.cells:
        record = _record(cell)
        line = {name: record[name] for name in ("cell", "best_on_validation", "digest")}
        line |= {"seeds": len(cell.runs)} | _mean("val_R@1", cell.val_recalls)
        for row in record["rows"]:
            line |= {f"{row['direction']}_{name}": row[name] for name in _NUMBERS if name in row}
            if row["direction"] == "t2v":
                line["t2v_R@1_low"], line["t2v_R@1_high"] = row["ci"]
        if record["difference"]:
            low, high = record["difference"]["ci"]
            ends = record["difference"]["mean"], low, high
            line |= dict(zip(compared, ends, strict=True))
        writer.writerow(line)
    return text.getvalue()


def _record(cell: CellResult) -> dict[str, Any]:
    found = cell.difference
    difference = found and {
        "mean": _rounded(found.mean),
        "ci": [_rounded(found.low), _rounded(found.high)],
        "seeds": found.seeds,
    }
    return {
        "cell": cell.name,
        "runs": [
            {"seed": run.seed, "folder": f"runs/{run.folder.root.name}", "key": run.key}
            for run in cell.runs
        ],
        "val_R@1": [_rounded(recall) for recall in cell.val_recalls],
        "best_on_validation": cell.best,
        "difference": difference,
        "rows": list(row_records(cell.row)),
        "digest": cell.digest,
    }


def _cells(cell: CellResult, versus: bool) -> Iterator[str]:
    t2v, v2t = cell.row.metrics["t2v"], cell.row.metrics["v2t"]
    val = _mean("val", cell.val_recalls)
    deviation = f" ± {val['val_sd']:.1f}" if "val_sd" in val else ""
    yield f"{val['val']:.1f}{deviation}" if val else "-"
    yield measured(t2v, "R@1")
    yield f"{t2v.interval[0]:.1f} to {t2v.interval[1]:.1f}"
    if versus:
        found = cell.difference
        yield f"{found.mean:+.1f}" if found else ""
        yield f"{found.low:+.1f} to {found.high:+.1f}" if found else ""
    yield from (measured(t2v, name) for name in ("R@5", "R@10", "MdR"))
    yield measured(v2t, "R@1")


def _flags(cell: CellResult) -> list[Flag]:
    return [*([_BEST] if cell.best else []), *cell.row.flags]


def _notes(results: SweepResults) -> Iterator[str]:
    t2v = results.cells[0].row.metrics["t2v"]
    yield f"{t2v.queries} queries, {t2v.candidates} videos in the gallery"
    if sizes := {(val.queries, val.videos) for cell in results.cells for val in cell.validation}:
        shown = ", ".join(f"{queries} queries of {videos} videos" for queries, videos in sizes)
        yield f"val R@1: T2V R@1 of the late fusion on the validation part, {shown}"
    yield (
        "R@K in percent; mean ± sample deviation over seeds; intervals by bootstrap over videos, "
        "with the variance of the seeds"
    )
    if results.base:
        yield f"vs. {results.base}: T2V R@1 minus its, seed by seed on the same queries"
    same: dict[str, list[str]] = {}
    for cell in results.cells:
        same.setdefault(cell.digest, []).append(cell.name)
    for names in same.values():
        if len(names) > 1:
            yield f"the same config, so trained once: {'; '.join(names)}"
    few = [c.name for c in results.cells if len(c.runs) < max(len(x.runs) for x in results.cells)]
    if few:
        yield f"not all seeds: {'; '.join(few)}"
    yield from (f"no result: {name}: {reason}" for name, reason in results.lacking.items())


def _mean(name: str, values: Sequence[float]) -> dict[str, float]:
    """Mean and, of several values, sample deviation."""
    if not values:
        return {}
    spread = {f"{name}_sd": _rounded(float(np.std(values, ddof=1)))} if len(values) > 1 else {}
    return {name: _rounded(float(np.mean(values))), **spread}


def _rounded(value: float) -> float:
    return round(value, 6) + 0.0
