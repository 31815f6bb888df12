"""Equal bytes on Dask workers that join, leave, freeze and die, and no endless wait."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from corpus import COUNTS, GATE, HOOKS, POISON, ExtractionCorpus, LedgerFiles
from dask_processes import DaskProcesses, dask_processes, until

Command = Callable[..., "subprocess.CompletedProcess[str]"]
M2HF = str(Path(sys.executable).parent / "m2hf")


def flow(corpus: ExtractionCorpus, store: str) -> list[str]:
    return corpus.options(store, only="flow")


def set_(key: str, value: object) -> list[str]:
    return ["--set", f"extract.{key}={value}"]


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `m2hf extract` with additional environment variables; killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def driver(*arguments: object, **environment: str) -> "subprocess.Popen[str]":
        command = [M2HF, "extract", *map(str, arguments)]
        env = {**os.environ, **environment}
        started.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield driver
    for process in started:
        process.kill()
        process.communicate()


def wait_for(driver: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and stderr."""
    _, stderr = driver.communicate(timeout=240)
    return driver.returncode, stderr


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    """Two workers under nannies, which a clip can kill (see `poison`)."""
    with dask_processes(tmp_path_factory.mktemp("shared") / "cluster") as cluster:
        for name in "ab":
            cluster.start_worker(name, **HOOKS, **{POISON: "id/4"})
        yield cluster


def poison(cluster: DaskProcesses, clip: str) -> None:
    """Choose the clip that kills the running workers; for restarted ones it is id/4."""
    cluster.client.run(exec, f"import os; os.environ[{POISON!r}] = {clip!r}")


@dataclass(frozen=True)
class GatedRun:
    """A run whose only worker, `worker`, waits inside a bucket until the gate is opened."""

    cluster: DaskProcesses
    worker: "subprocess.Popen[bytes]"
    driver: "subprocess.Popen[str]"
    ledger: LedgerFiles
    gate: Path

    def open_gate(self) -> None:
        self.gate.touch()


AT_GATE = 5  # lines: the worker waits at the third clip that it starts


@contextmanager
def gated_run(
    start: Start, corpus: ExtractionCorpus, store: str, folder: Path, **environment: str
) -> Iterator[GatedRun]:
    """Extract flow to `store`; environment: variables of the scheduler."""
    gate, ledger = folder / "gate", corpus.ledger(store)
    with dask_processes(folder / "cluster", **environment) as cluster:
        worker = cluster.start_worker("gated", "--no-nanny", **HOOKS, **{GATE: str(gate)})
        driver = start(*flow(corpus, store), "--scheduler", cluster.address)
        until(lambda: ledger.lines(worker.pid) >= AT_GATE, "the worker at the gate")
        yield GatedRun(cluster, worker, driver, ledger, gate)


def test_existing_workers_give_the_same_bytes(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command, shared_cluster: DaskProcesses
) -> None:
    poison(shared_cluster, "none")
    done = m2hf("extract", *flow(corpus, "separate"), "--scheduler", shared_cluster.address)
    assert done.returncode == 0, done.stderr
    line = "Dask workers: 2 on 1 hosts, offering cpu; features on cpu; dashboard: none"
    assert line in done.stderr
    assert corpus.shards("separate") == serial


def test_a_worker_opens_its_models_once(
    corpus: ExtractionCorpus, m2hf: Command, shared_cluster: DaskProcesses
) -> None:
    """Four buckets on two workers: one of them at least does two."""
    poison(shared_cluster, "none")
    counting = """
from m2hf.extract.flow import Flow

def counted(self, device, real=Flow.open):
    Flow.opened += 1
    return real(self, device)

Flow.opened, Flow.open = 0, counted
"""
    shared_cluster.client.run(exec, counting, {})
    options = [*flow(corpus, "once"), *set_("flow.window_s", 0.5)]
    assert m2hf("extract", *options, "--scheduler", shared_cluster.address).returncode == 0
    assert len(corpus.shards("once")) == 1 + 4
    count = "__import__('sys').modules['m2hf.extract.flow'].Flow.opened"
    opened = shared_cluster.client.run(eval, count)
    assert set(opened.values()) == {1}


def test_a_worker_with_other_libraries_is_refused(
    corpus: ExtractionCorpus, m2hf: Command, shared_cluster: DaskProcesses
) -> None:
    base = "import m2hf.extract.base as base; "
    other = "base.real, base.version = base.version, lambda name: '0.0.1'"
    shared_cluster.client.run(exec, base + other)
    try:
        done = m2hf("extract", *flow(corpus, "mixed"), "--scheduler", shared_cluster.address)
    finally:
        shared_cluster.client.run(exec, base + "base.version = base.real")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"m2hf: the worker on {socket.gethostname()} has numpy 0.0.1, not ")
    assert [*corpus.shards("mixed")] == ["corpus/store.json"]


def test_waiting_for_a_resource_that_no_worker_has_ends(
    corpus: ExtractionCorpus, m2hf: Command, shared_cluster: DaskProcesses
) -> None:
    options = corpus.options("nothing", only="motion") + set_("motion.pretrained", "''")
    options += ["--scheduler", shared_cluster.address, *set_("device", "cuda")]
    done = m2hf("extract", *options, *set_("cluster.wait_s", 0.5))
    assert done.returncode == 2
    stderr = done.stderr.splitlines()
    assert "no worker offers GPU; waiting up to 0.5 s" in stderr
    assert stderr[-1].startswith(
        "m2hf: no worker offers GPU after 0.5 s (Dask workers: 2 on 1 hosts"
    )
    assert (
        f'dask worker {shared_cluster.address} --nthreads 1 --resources "GPU=1 cpu=1"' in stderr[-1]
    )


def test_a_poison_clip_is_quarantined_on_existing_workers(
    corpus: ExtractionCorpus, serial: dict[str, bytes], m2hf: Command, shared_cluster: DaskProcesses
) -> None:
    poison(shared_cluster, "id/4")
    done = m2hf("extract", *flow(corpus, "poison"), "--scheduler", shared_cluster.address)
    assert done.returncode == 3, done.stderr
    now = corpus.status(m2hf, "poison", only="flow")
    assert now["extractors"]["flow"] == {**COUNTS, "ok": 7, "quarantined": 1}
    assert m2hf("retry", *flow(corpus, "poison")).returncode == 0
    assert corpus.shards("poison") == serial


def test_a_run_grows_and_shrinks(
    start: Start, corpus: ExtractionCorpus, serial: dict[str, bytes], tmp_path: Path
) -> None:
    with gated_run(start, corpus, "elastic", tmp_path) as run:
        second = run.cluster.start_worker("second", "--no-nanny")
        until(lambda: run.ledger.lines(second.pid) > 0, "work for the second worker")
        run.cluster.client.retire_workers([run.cluster.workers()["gated"]])
        run.open_gate()
        assert wait_for(run.driver)[0] == 0
        assert [*run.cluster.workers()] == ["second"]
        run.worker.wait(timeout=240)
    assert corpus.shards("elastic") == serial


def test_a_frozen_worker_is_left_alone_and_does_no_harm_when_it_wakes(
    start: Start,
    corpus: ExtractionCorpus,
    serial: dict[str, bytes],
    m2hf: Command,
    tmp_path: Path,
) -> None:
    ttl = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "1 s"}
    with gated_run(start, corpus, "frozen", tmp_path, **ttl) as run:
        run.worker.send_signal(signal.SIGSTOP)
        run.open_gate()
        run.cluster.start_worker("other", "--no-nanny")
        assert wait_for(run.driver)[0] == 0
        assert corpus.shards("frozen") == serial
        before = run.ledger.lines(run.worker.pid)
        run.worker.send_signal(signal.SIGCONT)
        until(lambda: run.ledger.lines(run.worker.pid) > before, "the frozen worker to resume")
        run.worker.wait(timeout=240)  # the scheduler has removed it, so it ends
    assert corpus.shards("frozen") == serial
    now = corpus.status(m2hf, "frozen", only="flow")
    assert now["extractors"]["flow"] == {**COUNTS, "ok": 8}


def test_a_frozen_worker_of_a_local_cluster_is_replaced(
    start: Start, corpus: ExtractionCorpus, serial: dict[str, bytes], tmp_path: Path
) -> None:
    ledger, gate = corpus.ledger("replaced"), tmp_path / "gate"
    options = [*flow(corpus, "replaced"), "--workers", "1", *set_("cluster.worker_ttl_s", 1)]
    driver = start(*options, **HOOKS, **{GATE: str(gate)})
    until(lambda: ledger.lines() >= AT_GATE, "the worker at the gate")
    children = psutil.Process(driver.pid).children(recursive=True)
    (worker,) = [p for p in children if "spawn_main" in " ".join(p.cmdline())]
    worker.suspend()
    gate.touch()
    code, stderr = wait_for(driver)
    assert code == 0, stderr
    assert ledger.writers() == 3  # it, its replacement, and the process that tried its clip alone
    assert corpus.shards("replaced") == serial


def test_an_interrupted_driver_leaves_no_tasks_behind(
    start: Start,
    corpus: ExtractionCorpus,
    serial: dict[str, bytes],
    m2hf: Command,
    tmp_path: Path,
) -> None:
    with gated_run(start, corpus, "interrupted", tmp_path) as run:
        run.driver.send_signal(signal.SIGTERM)
        code, stderr = wait_for(run.driver)
        assert (code, stderr.splitlines()[-1]) == (
            130, "m2hf: interrupted; run the same command again to resume",
        )  # fmt: skip
        assert [*run.cluster.client.processing().values()] == [()]
        run.open_gate()
        until(lambda: len(corpus.shards("interrupted")) == 2, "the bucket that it had started")
        done = m2hf("extract", *flow(corpus, "interrupted"), "--scheduler", run.cluster.address)
        assert done.returncode == 0, done.stderr
    assert corpus.shards("interrupted") == serial


def test_a_lost_scheduler_ends_the_run_with_one_line(
    start: Start, corpus: ExtractionCorpus, tmp_path: Path
) -> None:
    with gated_run(start, corpus, "gone", tmp_path) as run:
        run.cluster.client.close()
        run.cluster.scheduler.kill()
        code, stderr = wait_for(run.driver)
        run.open_gate()
    assert code == 1
    assert "Traceback" not in stderr
    assert "the Dask scheduler " in stderr.splitlines()[-1]
    assert stderr.splitlines()[-1].endswith("run the same command again to resume")
