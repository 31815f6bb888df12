"""What an extraction prints of its items: counts, times, failures and remarks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from m2hf.pipelines.extraction import RunStatus
    from m2hf.pipelines.job import Job
    from m2hf.pipelines.run_times import RunTimes


def print_efficiency(console: Console, job: "Job", run: "RunTimes") -> None:
    """Seconds per item, and of it in models, of a run."""
    names: dict[str, str] = {job.stream(name): name for name in job.names}
    table = Table("this run", title_justify="left")
    for heading in ("items", "seconds per item", "of it in models", "ratio"):
        table.add_column(heading, justify="right")
    for stream, (items, spent) in sorted(run.spent.items()):
        wall, model = spent.wall_s / items, spent.model_s / items
        shown = (f"{model:.3f}", f"{wall / model:.2f}") if model else ("", "")
        table.add_row(names.get(stream, stream), str(items), f"{wall:.3f}", *shown)
    if run.spent:
        console.print(table)
    if run.model_s:
        processes = "1 process" if run.processes == 1 else f"{run.processes} processes"
        console.print(
            f"{run.wall_s:.1f} s in {processes}, models {run.model_s:.1f} s: "
            f"{run.overhead_ratio:.2f} times the models' own time",
            soft_wrap=True,
        )


def counts_table(job: "Job", counts: dict[str, dict[str, int]]) -> Table:
    """Items by outcome; counts: by extractor."""
    table = Table("extractor", title=job.manifest.card.name)
    for heading in next(iter(counts.values())):
        table.add_column(heading, justify="right")
    table.add_column("features")
    for name, row in counts.items():
        flags = job.flags(name)
        label = job.stream(name) + (f" ({', '.join(flags)})" if flags else "")
        table.add_row(name, *(str(n) for n in row.values()), label)
    return table


def print_status(console: Console, job: "Job", now: "RunStatus", shown: int | None) -> None:
    """Counts, failures and remarks; shown: at most so many of each, None for all."""
    console.print(counts_table(job, now.counts))
    if now.spent:
        parts = [f"{n} {s.wall_s / items:.2f}" for n, (items, s) in sorted(now.spent.items())]
        console.print(f"seconds per item: {', '.join(parts)}", soft_wrap=True)
    _print_list(
        console,
        "failures",
        [
            f"{f['id']}: {f['extractor']} at {f['stage']}: {f['class']}: {f['message']}"
            for f in now.failures
        ],
        shown,
    )
    _print_list(
        console,
        "remarks",
        [f"{r['id']}: {r['extractor']}: {r['message']}" for r in now.remarks],
        shown,
    )
    for message in now.damaged:
        console.print(message, soft_wrap=True, markup=False)


def _print_list(console: Console, title: str, lines: Sequence[str], shown: int | None) -> None:
    if lines:
        console.print(f"{title} ({len(lines)}):")
    for line in lines[:shown]:
        console.print(f"  {line}", soft_wrap=True, markup=False, highlight=False)
    if shown is not None and len(lines) > shown:
        console.print(f"  ... and {len(lines) - shown} more: see `m2hf status`")
