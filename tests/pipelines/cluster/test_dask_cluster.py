"""A cluster whose workers differ, come, go, freeze and die: equal bytes, and no endless wait."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import media
import psutil
import pytest
from checkout import HELPERS
from corpus import COUNTS, Corpus
from distributed import Client
from lab import Lab, lab, until

from m2hf.errors import MismatchError, UsageError
from m2hf.pipelines.cluster import workers
from m2hf.pipelines.cluster.workers import Offers, Patience, needed, start_workers
from m2hf.pipelines.job import Job
from m2hf.pipelines.plan import Task

Command = Callable[..., "subprocess.CompletedProcess[str]"]
M2HF = str(Path(sys.executable).parent / "m2hf")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Eight clips in four buckets; motion as flow needs no network."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "media").mkdir()
    files = {
        f"id/{i}": media.good(folder / "media" / f"clip{i}.mp4", seconds=1, source=source)
        for i, source in enumerate(("testsrc2", "testsrc", "smptebars", "rgbtestsrc") * 2)
    }
    return Corpus(folder, files, ())


@pytest.fixture(scope="module")
def serial(corpus: Corpus, m2hf: Command) -> dict[str, bytes]:
    """The bytes of a run in one process, without incident."""
    done = m2hf("extract", *flow(corpus, "serial"))
    assert done.returncode == 0, done.stderr
    return corpus.shards("serial")


def flow(corpus: Corpus, store: str) -> list[str]:
    return corpus.options(store, only="flow")


def set_(key: str, value: object) -> list[str]:
    return ["--set", f"extract.{key}={value}"]


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `m2hf extract` with variables on top; what a failed test leaves is killed."""
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


def ends(driver: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code, and what it said."""
    _, said = driver.communicate(timeout=240)
    return driver.returncode, said


class Ledger:
    """What each process wrote."""

    def __init__(self, corpus: Corpus, store: str) -> None:
        self._folder = corpus.folder / store / "corpus" / "ledger"

    def lines(self, pid: int = 0) -> int:
        """Of process `pid`, or of all."""
        pattern = f"*-{pid}-*.jsonl" if pid else "*.jsonl"
        return sum(p.read_bytes().count(b"\n") for p in self._folder.glob(pattern))

    def writers(self) -> int:
        return len([*self._folder.glob("*.jsonl")])

    def hosts(self) -> set[str]:
        return {p.name.split("-", 1)[1].rsplit("-", 2)[0] for p in self._folder.glob("*.jsonl")}


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two workers that are processes of their own, under nannies, and load the poison."""
    with lab(tmp_path_factory.mktemp("lab") / "lab") as cluster:
        for name in "ab":
            preload = str(HELPERS / "poison.py")
            cluster.worker(name, "--preload", preload, M2HF_TEST_POISON="id/4")
        yield cluster


def poison(cluster: Lab, clip: str) -> None:
    """Say which clip kills the workers that run now; one that a nanny starts again has id/4."""
    cluster.client.run(exec, f"import os; os.environ['M2HF_TEST_POISON'] = {clip!r}")


def test_workers_of_their_own_give_the_same_bytes(
    corpus: Corpus, serial: dict[str, bytes], m2hf: Command, shared_lab: Lab
) -> None:
    poison(shared_lab, "none")
    done = m2hf("extract", *flow(corpus, "separate"), "--scheduler", shared_lab.address)
    assert done.returncode == 0, done.stderr
    line = "Dask workers: 2 on 1 hosts, offering cpu; features on cpu; dashboard: none"
    assert line in done.stderr
    assert corpus.shards("separate") == serial


def test_a_worker_opens_its_models_once(corpus: Corpus, m2hf: Command, shared_lab: Lab) -> None:
    """Four buckets on two workers: one of them at least does two."""
    poison(shared_lab, "none")
    counting = """
from m2hf.extract.flow import Flow

def counted(self, device, real=Flow.open):
    Flow.opened += 1
    return real(self, device)

Flow.opened, Flow.open = 0, counted
"""
    shared_lab.client.run(exec, counting, {})
    options = [*flow(corpus, "once"), *set_("flow.window_s", 0.5)]
    assert m2hf("extract", *options, "--scheduler", shared_lab.address).returncode == 0
    assert len(corpus.shards("once")) == 1 + 4
    asked = "__import__('sys').modules['m2hf.extract.flow'].Flow.opened"
    opened = shared_lab.client.run(eval, asked)
    assert set(opened.values()) == {1}


def test_a_worker_with_other_libraries_is_refused(
    corpus: Corpus, m2hf: Command, shared_lab: Lab
) -> None:
    base = "import m2hf.extract.base as base; "
    other = "base.real, base.version = base.version, lambda name: '0.0.1'"
    shared_lab.client.run(exec, base + other)
    try:
        done = m2hf("extract", *flow(corpus, "mixed"), "--scheduler", shared_lab.address)
    finally:
        shared_lab.client.run(exec, base + "base.version = base.real")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"m2hf: the worker on {socket.gethostname()} has numpy 0.0.1, not ")
    assert [*corpus.shards("mixed")] == ["corpus/store.json"]


def test_no_run_waits_for_ever_for_what_no_worker_offers(
    corpus: Corpus, m2hf: Command, shared_lab: Lab
) -> None:
    options = corpus.options("nothing", only="motion") + set_("motion.pretrained", "''")
    options += ["--scheduler", shared_lab.address, *set_("device", "cuda")]
    done = m2hf("extract", *options, *set_("cluster.wait_s", 0.5))
    assert done.returncode == 2
    said = done.stderr.splitlines()
    assert "no worker offers GPU; waiting up to 0.5 s" in said
    assert said[-1].startswith("m2hf: no worker offers GPU after 0.5 s (Dask workers: 2 on 1 hosts")
    assert f'dask worker {shared_lab.address} --nthreads 1 --resources "GPU=1 cpu=1"' in said[-1]


def test_a_poison_clip_is_quarantined_on_workers_of_their_own(
    corpus: Corpus, serial: dict[str, bytes], m2hf: Command, shared_lab: Lab
) -> None:
    poison(shared_lab, "id/4")
    done = m2hf("extract", *flow(corpus, "poison"), "--scheduler", shared_lab.address)
    assert done.returncode == 3, done.stderr
    now = corpus.status(m2hf, "poison", only="flow")
    assert now["extractors"]["flow"] == {**COUNTS, "ok": 7, "quarantined": 1}
    assert m2hf("retry", *flow(corpus, "poison")).returncode == 0
    assert corpus.shards("poison") == serial


def test_a_run_grows_and_shrinks(
    start: Start, corpus: Corpus, serial: dict[str, bytes], tmp_path: Path
) -> None:
    ledger = Ledger(corpus, "elastic")
    gate = {"M2HF_TEST_GATE": str(tmp_path / "gate")}
    with lab(tmp_path / "lab") as cluster:
        first = cluster.worker("first", "--no-nanny", "--preload", str(HELPERS / "gate.py"), **gate)
        driver = start(*flow(corpus, "elastic"), "--scheduler", cluster.address)
        until(lambda: ledger.lines(first.pid) >= 3, "the first worker at the gate")
        second = cluster.worker("second", "--no-nanny")
        until(lambda: ledger.lines(second.pid) > 0, "work for the second worker")
        cluster.client.retire_workers([cluster.workers()["first"]])
        (tmp_path / "gate").touch()
        assert ends(driver)[0] == 0
        assert [*cluster.workers()] == ["second"]
        first.wait(timeout=240)
    assert corpus.shards("elastic") == serial


def test_a_frozen_worker_is_left_alone_and_does_no_harm_when_it_wakes(
    start: Start, corpus: Corpus, serial: dict[str, bytes], m2hf: Command, tmp_path: Path
) -> None:
    ledger = Ledger(corpus, "frozen")
    gate = {"M2HF_TEST_GATE": str(tmp_path / "gate")}
    with lab(tmp_path / "lab", DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="1 s") as cluster:
        frozen = cluster.worker(
            "frozen", "--no-nanny", "--preload", str(HELPERS / "gate.py"), **gate
        )
        driver = start(*flow(corpus, "frozen"), "--scheduler", cluster.address)
        until(lambda: ledger.lines(frozen.pid) >= 3, "a worker in the middle of a bucket")
        frozen.send_signal(signal.SIGSTOP)
        (tmp_path / "gate").touch()
        cluster.worker("other", "--no-nanny")
        assert ends(driver)[0] == 0
        assert corpus.shards("frozen") == serial
        before = ledger.lines(frozen.pid)
        frozen.send_signal(signal.SIGCONT)
        until(lambda: ledger.lines(frozen.pid) > before, "the frozen worker goes on")
        frozen.wait(timeout=240)  # the scheduler has forgotten it, so it ends
    assert corpus.shards("frozen") == serial
    now = corpus.status(m2hf, "frozen", only="flow")
    assert now["extractors"]["flow"] == {**COUNTS, "ok": 8}


def test_a_frozen_worker_of_our_own_is_replaced(
    start: Start, corpus: Corpus, serial: dict[str, bytes], tmp_path: Path
) -> None:
    ledger = Ledger(corpus, "replaced")
    gate = {"M2HF_TEST_GATE": str(tmp_path / "gate")}
    gate["DASK_DISTRIBUTED__WORKER__PRELOAD"] = str(HELPERS / "gate.py")
    options = [*flow(corpus, "replaced"), "--workers", "1", *set_("cluster.worker_ttl_s", 1)]
    driver = start(*options, **gate)
    until(lambda: ledger.lines() >= 3, "a worker in the middle of a bucket")
    children = psutil.Process(driver.pid).children(recursive=True)
    (worker,) = [p for p in children if "spawn_main" in " ".join(p.cmdline())]
    worker.suspend()
    (tmp_path / "gate").touch()
    code, said = ends(driver)
    assert code == 0, said
    assert ledger.writers() == 2
    assert corpus.shards("replaced") == serial


def test_an_interrupted_driver_leaves_no_tasks_behind(
    start: Start, corpus: Corpus, serial: dict[str, bytes], m2hf: Command, tmp_path: Path
) -> None:
    ledger = Ledger(corpus, "interrupted")
    gate = {"M2HF_TEST_GATE": str(tmp_path / "gate")}
    with lab(tmp_path / "lab") as cluster:
        worker = cluster.worker("only", "--no-nanny", "--preload", str(HELPERS / "gate.py"), **gate)
        driver = start(*flow(corpus, "interrupted"), "--scheduler", cluster.address)
        until(lambda: ledger.lines(worker.pid) >= 5, "a worker at the gate")
        driver.send_signal(signal.SIGTERM)
        code, said = ends(driver)
        assert (code, said.splitlines()[-1]) == (
            130, "m2hf: interrupted; run the same command again to resume",
        )  # fmt: skip
        assert [*cluster.client.processing().values()] == [()]
        (tmp_path / "gate").touch()
        until(lambda: len(corpus.shards("interrupted")) == 2, "the bucket that it was at")
        done = m2hf("extract", *flow(corpus, "interrupted"), "--scheduler", cluster.address)
        assert done.returncode == 0, done.stderr
    assert corpus.shards("interrupted") == serial


def test_a_scheduler_that_is_gone_ends_the_run_with_a_line(
    start: Start, corpus: Corpus, tmp_path: Path
) -> None:
    ledger = Ledger(corpus, "gone")
    gate = {"M2HF_TEST_GATE": str(tmp_path / "gate")}
    with lab(tmp_path / "lab") as cluster:
        worker = cluster.worker("only", "--no-nanny", "--preload", str(HELPERS / "gate.py"), **gate)
        driver = start(*flow(corpus, "gone"), "--scheduler", cluster.address)
        until(lambda: ledger.lines(worker.pid) >= 5, "a worker at the gate")
        cluster.client.close()
        cluster.scheduler.kill()
        code, said = ends(driver)
        (tmp_path / "gate").touch()
    assert code == 1
    assert "Traceback" not in said
    assert "the Dask scheduler " in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith("run the same command again to resume")


def test_two_hosts_give_the_same_bytes(
    corpus: Corpus, serial: dict[str, bytes], tmp_path: Path
) -> None:
    outside = ["unshare", "--user", "--map-root-user", "--net", "--uts"]
    for needs in ("unshare", "nsenter", "ip"):
        if shutil.which(needs) is None:
            pytest.skip(f"{needs} is not installed, so no network namespace can be made")
    inside = "ip link add veth-a type veth peer name veth-b"
    allowed = subprocess.run([*outside, *inside.split()], capture_output=True, text=True)
    if allowed.returncode:
        pytest.skip(f"this kernel makes no network namespace for us: {allowed.stderr.strip()}")
    command = [*outside, sys.executable, str(HELPERS / "two_hosts.py"), str(tmp_path)]
    command += [M2HF, "extract", *flow(corpus, "hosts")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "Dask workers: 2 on 2 hosts" in done.stderr
    assert corpus.shards("hosts") == serial
    assert Ledger(corpus, "hosts").hosts() == {"lab-a", "lab-b"}


@pytest.fixture(scope="module")
def job(corpus: Corpus) -> Job:
    section = {"motion": {"pretrained": ""}}
    return Job.prepare(
        corpus.folder / "manifest",
        corpus.media,
        corpus.folder / "job",
        section,
        ("motion", "flow"),
    )


@pytest.mark.parametrize(
    ("names", "device", "need"),
    [
        (("motion",), "cuda", "GPU"),
        (("motion", "flow"), "cuda:1", "GPU"),
        (("flow",), "cuda", "cpu"),
        (("motion", "flow"), "cpu", "cpu"),
    ],
)
def test_a_task_needs_a_gpu_for_a_network_on_cuda(
    job: Job, names: tuple[str, ...], device: str, need: str
) -> None:
    assert needed(job, Task(0, names), device) == need


def offers(*workers: set[str]) -> Offers:
    return Offers(tuple(map(frozenset, workers)), frozenset({"here"}))


def test_workers_that_declare_nothing_do_cpu_tasks_where_none_declares_a_cpu() -> None:
    assert offers(set(), set()).asked("cpu") == ""
    assert offers({"GPU"}, set()).asked("cpu") == ""
    assert offers({"cpu"}, set()).asked("cpu") == "cpu"
    assert offers(set()).asked("GPU") == "GPU"


def test_what_is_lacking() -> None:
    assert offers().lack([]) == ["a worker"]
    assert offers(set()).lack(["", "GPU"]) == ["GPU"]
    assert offers({"GPU", "cpu"}, {"cpu"}).lack(["cpu", "GPU", ""]) == []


def test_patience_begins_anew_when_a_worker_came(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    said: list[str] = []

    class Scheduler:
        address = "tcp://lab:8786"

    class Somebody:
        scheduler = Scheduler()

    somebody: Any = Somebody()
    patience = Patience(somebody, 10, said.append)
    for moment, there in ((0.0, ()), (9.0, ()), (9.5, ({"cpu"},)), (12.0, ()), (21.0, ())):
        now[0] = moment
        assert patience.enough(offers(*there), ["cpu"]) == bool(there)
    now[0] = 22.0
    with pytest.raises(UsageError, match=r"no worker after 10 s .* dask worker tcp://lab:8786"):
        patience.enough(offers(), ["cpu"])
    assert said == ["no worker; waiting up to 10 s"] * 2


def test_each_worker_of_our_own_sees_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5f")
    assert workers.cuda_devices("cpu") == ()
    devices = workers.cuda_devices("cuda")
    with start_workers(3, devices) as cluster, Client(cluster) as client:
        info = client.scheduler_info(n_workers=-1)["workers"]
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
        assert {info[address]["name"]: device for address, device in seen.items()} == {
            0: "2", 1: "GPU-5f", 2: "2",
        }  # fmt: skip
        assert Offers.of(client).resources == (frozenset({"GPU", "cpu"}),) * 3


def test_all_workers_use_one_device_and_the_libraries_of_the_driver(job: Job) -> None:
    spec = job.for_workers("cuda")
    assert json.loads(spec.config) == {**json.loads(job.spec.config), "device": "cuda"}
    theirs = Job.open(spec)
    assert (theirs.device, theirs.fingerprints) == ("cuda", job.fingerprints)
    other = job.for_workers("cpu").environment
    changed = tuple((name, "0" if name == "torch" else have) for name, have in other)
    with pytest.raises(MismatchError, match=r"has torch .*, not 0 as the driver"):
        Job.open(type(spec)(**{**spec.__dict__, "environment": changed}))
