"""Results as JSON and as a Markdown table: mean and deviation over runs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.levels.report import machine, paired, spread
from benchmarks.real.run import ENSEMBLE, KS, RIDGE_ROW, Outcome

_RECALLS = tuple(f"R@{k}" for k in KS)


def as_json(data: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """runs: manifest, seed and `rows`, the outcome by row, of each. By row of the result: R@1, R@5,
    R@10 in percent and CPU seconds, a number a run, null where training failed."""
    rows: dict[str, Any] = {}
    for name in dict.fromkeys(name for run in runs for name in run["rows"]):
        outcomes: list[Outcome] = [run["rows"][name] for run in runs]
        rows[name] = {
            recall: [round(o.recall[i], 3) if o.recall else None for o in outcomes]
            for i, recall in enumerate(_RECALLS)
        }
        rows[name]["seconds"] = [None if o.failed else round(o.seconds, 2) for o in outcomes]
    return {
        "data": data,
        "machine": machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": [{"manifest": run["manifest"], "seed": run["seed"]} for run in runs],
        "rows": rows,
    }


def markdown(results: Mapping[str, Any]) -> str:
    """One line a row; the difference from ridge is the mean of paired differences in R@1, with its
    standard error."""
    rows = results["rows"]
    lines = [f"| row | {' | '.join(_RECALLS)} | R@1 minus ridge | CPU s |", "|---|" + "---|" * 5]
    for name, row in rows.items():
        cells = [spread(row[recall]) for recall in _RECALLS]
        ours, theirs = row["R@1"], rows[RIDGE_ROW]["R@1"]
        cells.append("-" if name == RIDGE_ROW else paired(ours, theirs))
        lines.append(f"| {' | '.join([name, *cells, spread(row['seconds'])])} |")
    lines += ["", f"T2V on test, in percent, mean ± deviation over {len(results['runs'])} runs;"]
    lines += ["a difference is paired by run, mean ± standard error."]
    if ENSEMBLE in rows:
        lines += ["Levels are the ensemble's, and have its CPU seconds."]
    lines += [f"{results['data']}; {results['machine']}; {results['date']}"]
    return "\n".join(lines) + "\n"
