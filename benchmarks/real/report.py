"""Results as JSON and as a Markdown table: mean and deviation over runs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchmarks.levels.report import machine, paired, spread
from benchmarks.real.run import DEFAULT, ENSEMBLE, KS, RIDGE_ROW, TWO_TOWER, Outcome, Run
from m2hf.array_types import FloatArray
from m2hf.fuse.tables.bootstrap import LEVEL, paired_interval

_RECALLS = tuple(f"R@{k}" for k in KS)
_RSUM = " + ".join(_RECALLS)


def as_json(data: str, runs: Sequence[Run]) -> dict[str, Any]:
    """By row: R@1, R@5, R@10 in percent and CPU seconds, a number a run, null where training
    failed. By row that the default recipe is compared with: the difference in the sum of the three,
    with its interval."""
    rows: dict[str, Any] = {}
    for name in dict.fromkeys(name for run in runs for name in run.rows):
        outcomes: list[Outcome] = [run.rows[name] for run in runs]
        rows[name] = {
            recall: [round(o.recall[i], 3) if o.recall else None for o in outcomes]
            for i, recall in enumerate(_RECALLS)
        }
        rows[name]["seconds"] = [None if o.failed else round(o.seconds, 2) for o in outcomes]
    return {
        "data": data,
        "machine": machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": [{"manifest": run.manifest, "seed": run.seed} for run in runs],
        "rows": rows,
        "default_minus": {name: _difference(runs, name) for name in (RIDGE_ROW, TWO_TOWER)},
    }


def _difference(runs: Sequence[Run], name: str) -> dict[str, Any] | None:
    """Of the default recipe from the row `name`, paired by query and seed; None after a failure.

    The queries of all folds count as one test set, resampled by video.
    """
    if any(run.rows[row].failed for run in runs for row in (DEFAULT, name)):
        return None
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, []).append(run)
    folds, *others = by_seed.values()
    whole = [folds, *(more for more in others if len(more) == len(folds))]  # as written so far
    ours, theirs = ([_found(folds, row) for folds in whole] for row in (DEFAULT, name))
    _, video_N = np.unique([v for run in folds for v in run.videos], return_inverse=True)
    mean = float(np.mean([np.mean(a - b) for a, b in zip(ours, theirs, strict=True)]))
    ends = paired_interval(ours, theirs, video_N)
    return {
        _RSUM: round(100 * len(KS) * mean, 3),
        "interval": [round(len(KS) * end, 3) for end in ends],
    }


def _found(folds: Sequence[Run], name: str) -> FloatArray:
    """(N,) the mean over `KS` of the probability of a hit, of the queries of all folds."""
    found_N: FloatArray = np.concatenate([run.rows[name].hits_KQ.mean(axis=0) for run in folds])
    return found_N


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
    for name, found in results["default_minus"].items():
        if found is not None:
            low, high = found["interval"]
            lines += [
                f"default minus {name}, {_RSUM}: {found[_RSUM]:+.1f} "
                f"({LEVEL} % interval {low:+.1f} to {high:+.1f});"
            ]
    lines += ["a bootstrap over the test videos, paired by query, with the variance of the seeds."]
    lines += [f"{results['data']}; {results['machine']}; {results['date']}"]
    return "\n".join(lines) + "\n"
