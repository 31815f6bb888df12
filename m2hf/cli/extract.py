"""`m2hf plan | extract | status | retry | verify`: from videos to shards."""

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from m2hf.cli import options
from m2hf.cli.run_report import counts_table, print_efficiency, print_status
from m2hf.errors import EXIT_FAILURES, UsageError
from m2hf.keys import canonical_json
from m2hf.manifest import shortened
from m2hf.printable import printable

if TYPE_CHECKING:
    from m2hf.pipelines.executors import Executor
    from m2hf.pipelines.job import Job
    from m2hf.pipelines.plan import JobState

_SHOWN = 20  # failures that a summary lists; `m2hf status` lists all


def plan(on: options.JobOptions, json: options.Json = False) -> None:
    """Print what is extracted and what is missing; write nothing."""
    from m2hf.pipelines import extraction

    job = _job(on, weights_may_lack=True)
    found = extraction.plan(job)
    precisions = {**dict(job.spec.chosen), **dict.fromkeys(job.undecided, "auto")}
    if json:
        typer.echo(
            canonical_json(
                {
                    "extractors": found.counts,
                    "buckets": job.buckets,
                    "buckets_to_do": sorted(found.todo),
                    "streams": [job.stream(name) for name in job.names],
                    "precision": precisions,
                    "damaged": [*found.damaged, *found.damage_messages],
                    "weights_missing": job.lacking,
                }
            )
        )
        return
    console = Console()
    console.print(counts_table(job, found.counts))
    for name, precision in precisions.items():
        chosen = "not measured yet" if name in job.undecided else "chosen by the store's first run"
        console.print(f"precision of {name}: {precision} ({chosen})")
    _print_lacking(console, job)
    _print_plan(console, job, found)


def extract(on: options.JobOptions, by: options.ExecutorOptions) -> None:
    """Extract what is missing; run it again to resume. Exit code 3: complete, with failures."""
    executor = _executor(by)
    _run(on, _decided_job(on, by), executor)


def retry(
    on: options.JobOptions,
    by: options.ExecutorOptions,
    damaged: Annotated[
        bool,
        typer.Option("--damaged", help="Check all items; extract again those that are damaged."),
    ] = False,
) -> None:
    """Extract again what failed or was quarantined, or is damaged, and what is missing."""
    from m2hf.pipelines import extraction

    executor = _executor(by)
    job = _decided_job(on, by)
    again = extraction.find_damage(job) if damaged else extraction.reset_failures(job)
    typer.echo(f"{again} items will be {'extracted' if damaged else 'tried'} again", err=True)
    _run(on, job, executor, damaged)


def status(on: options.JobOptions, json: options.Json = False) -> None:
    """Count ok, empty, failed, quarantined and missing items, and list every failure."""
    from m2hf.pipelines import extraction

    job = _job(on, weights_may_lack=True)
    now = extraction.status(job)
    if json:
        typer.echo(canonical_json({**now.as_json(), "weights_missing": job.lacking}))
    else:
        print_status(Console(), job, now, shown=None)
        _print_lacking(Console(), job)


def verify(
    manifest: options.ManifestDir,
    store: options.Store,
    only: options.Only = "",
    json: options.Json = False,
) -> None:
    """Recompute every digest of every shard, and record damaged items for `retry --damaged`; exit
    code 3 where there are some."""
    from m2hf.extract import registry
    from m2hf.layout import StoreLayout
    from m2hf.manifest import Manifest
    from m2hf.pipelines import extraction
    from m2hf.pipelines.config import select

    layout = StoreLayout(store, Manifest.load(manifest).card.name)
    stored = [stream.extractor for stream in layout.streams()]
    shards = list(
        extraction.verify(
            layout, select(only, default=stored, known=registry.names(), stored=stored)
        )
    )
    wrong = [shard for shard in shards if shard.problem]
    items = sum(shard.intact for shard in shards)
    if json:
        damaged = [{"shard": str(shard.path), "message": shard.problem} for shard in wrong]
        damaged_items = [
            {"id": item, "stream": shard.stream, "shard": str(shard.path)}
            for shard in wrong
            for item in shard.damaged
        ]
        counts = {"shards": len(shards), "items": items}
        typer.echo(canonical_json({**counts, "damaged": damaged, "damaged_items": damaged_items}))
    else:
        for shard in wrong:
            typer.echo(shard.problem)
            for item in shard.damaged:
                typer.echo(f"  {shard.stream}: {printable(item)}")
        typer.echo(f"{len(shards)} shards, {items} items verified, {len(wrong)} shards damaged")
    extraction.record(layout, shards)
    if wrong:
        raise typer.Exit(EXIT_FAILURES)


def _job(on: options.JobOptions, weights_may_lack: bool = False) -> "Job":
    from m2hf.cli.recipe import layout_of, load_recipe
    from m2hf.media_root import MediaRoot
    from m2hf.pipelines.config import select
    from m2hf.pipelines.job import Job

    MediaRoot.open(on.media)
    recipe, section = load_recipe(on.config, on.set_, layout_of(on.manifest, on.store))
    names = select(on.only, default=recipe.extract.extractors, known=recipe.extract.names)
    return Job.prepare(on.manifest, on.media, on.store, section, names, weights_may_lack)


def _decided_job(on: options.JobOptions, by: options.ExecutorOptions) -> "Job":
    """The job, after precisions that the store's first run has to choose were measured."""
    from m2hf.pipelines import fastest

    job = _job(on)
    if not job.undecided:
        return job
    if by.scheduler:
        raise UsageError(
            f"extract.{job.undecided[0]}.precision = 'auto' is measured in this process, not by "
            "the workers of --scheduler; set it to float32 or bfloat16, or start the store on a "
            "machine like theirs"
        )
    for choice in fastest.choose(job):
        typer.echo(choice, err=True)
    return _job(on)


def _executor(by: options.ExecutorOptions) -> "Executor":
    from m2hf.pipelines.executors import ArrayExecutor, SerialExecutor

    if sum(map(bool, (by.workers, by.scheduler, by.array))) > 1:
        raise UsageError("--workers, --scheduler and --array exclude each other; give one")
    if by.array:
        return ArrayExecutor.parse(by.array)
    if not (by.workers or by.scheduler):
        return SerialExecutor()
    from m2hf.pipelines.cluster.dask_executor import DaskExecutor

    return DaskExecutor(by.workers, by.scheduler, partial(typer.echo, err=True))


def _run(
    on: options.JobOptions, job: "Job", executor: "Executor", retry_damaged: bool = False
) -> None:
    from m2hf.cli.progress import extraction_progress
    from m2hf.cli.recipe import recipe_data
    from m2hf.pipelines import extraction
    from m2hf.pipelines.run_times import RunTimer

    console = Console(stderr=True)
    found = extraction.plan(job, retry_damaged)
    _print_plan(console, job, found)
    totals: dict[str, tuple[str, int]] = {
        job.stream(name): (name, counts["missing"])
        for name, counts in found.counts.items()
        if counts["missing"]
    }
    if on.config is not None or on.set_:
        job.layout.record_recipe(recipe_data(on.config, on.set_))
    if totals:
        timer, began = RunTimer(job.layout.ledger), time.perf_counter()
        with extraction_progress(console, job.layout.ledger, totals):
            for result in extraction.extract(job, executor, found):
                for name, items in result.damaged.items():
                    ids = shortened([repr(item) for item in items])
                    message = f"damaged, so not copied but extracted again: {name}: {ids}"
                    console.print(message, soft_wrap=True, markup=False, highlight=False)
        print_efficiency(console, job, timer.read(time.perf_counter() - began))
    now = extraction.status(job)
    print_status(Console(), job, now, _SHOWN)
    if now.failures or now.damaged:
        raise typer.Exit(EXIT_FAILURES)


def _print_lacking(console: Console, job: "Job") -> None:
    for message in dict.fromkeys(job.lacking.values()):
        names = ", ".join(name for name, why in job.lacking.items() if why == message)
        line = f"weights of {names} are missing: {message}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _print_plan(console: Console, job: "Job", found: "JobState") -> None:
    for message in found.damaged:
        console.print(f"[yellow]to be extracted again:[/] {message}", soft_wrap=True)
    for message in found.damage_messages:
        console.print(message, soft_wrap=True, markup=False, highlight=False)
    missing = ", ".join(
        f"{name} {counts['missing']}" for name, counts in found.counts.items() if counts["missing"]
    )
    flags = sorted({flag for name in job.names for flag in job.extractor(name).flags()})
    remark = f" ({', '.join(flags)} features)" if flags else ""
    console.print(
        f"to do: {missing} in {len(found.todo)} of {job.buckets} buckets, "
        f"device {job.config.device}{remark}"
        if missing
        else "nothing to do"
    )
