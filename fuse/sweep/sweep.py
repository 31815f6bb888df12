"""Run a grid over one store: what is missing, in any number of processes, once.

A sweep that was interrupted is started again by the same call, and ends with the same files:

    OUT/runs/<cell>-seed<n>-<key>/   a folder of a training run (m2hf.fuse.run_folder)
    OUT/sweep.lock                   held while a sweep is at work
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from m2hf.errors import ResourceError, UsageError
from m2hf.fuse.sweep.job import Answer, SweepJob
from m2hf.fuse.sweep.processes import Runner
from m2hf.fuse.sweep.runs import SweepPlan, SweepRun
from m2hf.layout import StoreLayout
from m2hf.locks import lock
from m2hf.manifest import Manifest, Split


@dataclass(frozen=True)
class Sweep:
    """manifest: its folder; store: of the features; out: folder of the sweep; split: to score."""

    manifest: Path
    store: Path
    out: Path
    split: Split

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises UsageError where another sweep works in the folder."""
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / "sweep.lock"
        with path.open("w") as file:
            if not lock(file, path):
                raise UsageError(
                    f"{self.out}: another sweep works there; wait, or give another --out"
                )
            yield

    def missing(self, plan: SweepPlan) -> list[SweepRun]:
        """The runs that are still to do; raises as `SweepRun.done`."""
        layout = StoreLayout(self.store, Manifest.load(self.manifest).card.name)
        return [run for run in plan.unique() if not run.done(self.split, layout)]

    def run(
        self,
        missing: list[SweepRun],
        runner: Runner,
        on_end: Callable[[SweepRun, str], None],
    ) -> Mapping[str, str]:
        """Do the missing runs; returns those that failed, by key, each with its one-line error.

        on_end: told of every run that ended, and of its error, "" for none. Raises ResourceError
        for what no run could succeed without.
        """
        failed: dict[str, str] = {}
        for number, line in runner([self.job(run).line() for run in missing]):
            run, found = missing[number], Answer.parse(line)
            if found.ends:
                raise ResourceError(found.error)
            if found.error:
                failed[run.key] = found.error
            on_end(run, found.error)
        return failed

    def job(self, run: SweepRun) -> SweepJob:
        """The job of a run, for any process that sees the same folders."""
        return SweepJob(
            str(self.manifest.resolve()),
            str(self.store.resolve()),
            str(run.folder.root.resolve()),
            run.config.model_dump(mode="json"),
            self.split,
        )
