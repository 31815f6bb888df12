"""Results as JSON and as Markdown tables: mean and standard deviation over seeds."""

import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from benchmarks.levels.rows import ALONE, BEST_ALONE, Ablation
from benchmarks.levels.run import TrainingOutcome, TrainingOutcomes, data_set, row_name
from m2hf import __version__
from m2hf.fuse.level_table import LATE_FUSION

_NONE = "-"


def as_json(
    rows: Sequence[Ablation], seeds: Sequence[int], outcomes: TrainingOutcomes
) -> dict[str, Any]:
    """By row: r1 (R@1 in percent, a number per seed, null where training failed), seconds (CPU,
    of training), epochs, levels (R@1 of every matrix of its file), failed (messages)."""
    table: dict[str, Any] = {}
    for row in rows:
        for setting in row.settings:
            found = [outcomes[data_set(row, setting, s), row.set] for s in seeds]
            table[row_name(row, setting)] = _entry(row, found)
    return {
        "machine": machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seeds": len(seeds),
        "first_seed": min(seeds),
        "rows": table,
    }


def machine() -> str:
    """What numbers depend on besides the code: the machine and the libraries."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, m2hf {__version__}"
    )


def _entry(row: Ablation, found: Sequence[TrainingOutcome]) -> dict[str, Any]:
    closed = row.reading.closed
    names = {} if closed else dict.fromkeys(name for o in found for name in o.matrices)
    entry: dict[str, Any] = {
        "r1": [outcome.read.get(row.reading) for outcome in found],
        "seconds": [round(o.closed_seconds if closed else o.seconds, 2) for o in found],
        "epochs": [0 if closed else outcome.epochs for outcome in found],
        "levels": {name: [outcome.matrices.get(name) for outcome in found] for name in names},
    }
    failed = [outcome.failed for outcome in found if outcome.failed]
    return entry | ({"failed": failed} if failed else {})


def markdown(rows: Sequence[Ablation], results: Mapping[str, Any]) -> str:
    """One table per group and setting; a difference is the mean over seeds of paired differences,
    with its standard error."""
    lines: list[str] = []
    entries: Mapping[str, Any] = results["rows"]
    for group in dict.fromkeys(row.group for row in rows):
        inside = [row for row in rows if row.group == group]
        for setting in dict.fromkeys(s for row in inside for s in row.settings):
            there = [row for row in inside if setting in row.settings]
            best = _best_alone(rows, setting, entries)
            lines += ["", f"### {group}, {setting}", ""]
            lines += ["| row | R@1 | difference | weakest level | CPU s |", "|---|---|---|---|---|"]
            lines += [_line(row, setting, entries, best) for row in there]
    first, count = results["first_seed"], results["seeds"]
    which = f"{count} seeds" if first == 0 else f"{count} seeds from {first}"
    lines += ["", f"R@1 in percent, mean ± deviation over {which}; a difference is paired by"]
    lines += ["seed, mean ± standard error. " + results["machine"] + ", " + results["date"]]
    if "loading" in results:
        loading = results["loading"]
        lines += ["", f"Loading features is {loading['share']:.1%} of a training step of"]
        lines += [
            f"{loading['step_ms']:.0f} ms ({loading['sizes']}; {loading['threads']} threads)."
        ]
    return "\n".join(lines[1:]) + "\n"


def _best_alone(rows: Sequence[Ablation], setting: str, entries: Mapping[str, Any]) -> str:
    """The name of the best single level, "" if none was trained."""
    names = [row.name for row in rows if row.group == ALONE and setting in row.settings]
    means = {name: _mean(entries[row_name(Ablation(name, ""), setting)]["r1"]) for name in names}
    return max(means, key=lambda name: means[name], default="")


def _line(row: Ablation, setting: str, entries: Mapping[str, Any], best: str) -> str:
    name = row_name(row, setting)
    entry = entries[name]
    against = best if row.against == BEST_ALONE else row.against
    other = row_name(Ablation(against, ""), setting)
    difference = _NONE
    if other in entries and other != name:
        difference = f"{paired(entry['r1'], entries[other]['r1'])} to {against}"
    levels = {k: _mean(v) for k, v in entry["levels"].items() if k != LATE_FUSION}
    weakest = _NONE
    if len(levels) > 1:
        worst = min(levels, key=lambda level: levels[level])
        weakest = f"{worst} {spread(entry['levels'][worst])}"
    cells = [row.name, spread(entry["r1"]), difference, weakest, f"{_mean(entry['seconds']):.1f}"]
    return f"| {' | '.join(cells)} |"


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float | None]) -> float:
    known = _known(values)
    return statistics.fmean(known) if known else math.nan


def spread(values: Sequence[float | None]) -> str:
    """Mean ± deviation over seeds."""
    known = _known(values)
    if not known:
        return "failed"
    deviation = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    failed = f" ({len(values) - len(known)} failed)" if len(known) < len(values) else ""
    return f"{statistics.fmean(known):.1f}{deviation}{failed}"


def paired(ours: Sequence[float | None], theirs: Sequence[float | None]) -> str:
    """Mean of the differences per seed ± its standard error."""
    both = zip(ours, theirs, strict=True)
    pairs = [a - b for a, b in both if a is not None and b is not None]
    if not pairs:
        return _NONE
    error = f" ± {statistics.stdev(pairs) / math.sqrt(len(pairs)):.1f}" if len(pairs) > 1 else ""
    return f"{statistics.fmean(pairs):+.1f}{error}"
