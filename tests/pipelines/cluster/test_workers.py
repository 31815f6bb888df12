"""Resources of Dask workers, waiting for them, and what a job requires of a worker's process."""

import json
import os
from pathlib import Path
from typing import Any

import media
import pytest
from corpus import ExtractionCorpus
from distributed import Client

from m2hf.errors import MismatchError, UsageError
from m2hf.pipelines.cluster import workers
from m2hf.pipelines.cluster.workers import (
    WorkerResources,
    WorkerWaiter,
    required_resource,
    start_workers,
)
from m2hf.pipelines.job import Job
from m2hf.pipelines.plan import BucketTask


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job of one clip with a network, motion, and an extractor without one, flow."""
    (tmp_path / "media").mkdir()
    corpus = ExtractionCorpus(
        tmp_path, {"clip": media.good(tmp_path / "media" / "clip.mp4", seconds=1)}, ()
    )
    section = {"motion": {"pretrained": ""}}
    paths = (corpus.folder / "manifest", corpus.media, corpus.folder / "store")
    return Job.prepare(*paths, section, ("motion", "flow"))


@pytest.mark.parametrize(
    ("names", "device", "resource"),
    [
        (("motion",), "cuda", "GPU"),
        (("motion", "flow"), "cuda:1", "GPU"),
        (("flow",), "cuda", "cpu"),
        (("motion", "flow"), "cpu", "cpu"),
    ],
)
def test_a_task_requires_a_gpu_for_a_network_on_cuda(
    job: Job, names: tuple[str, ...], device: str, resource: str
) -> None:
    assert required_resource(job, BucketTask(0, names), device) == resource


def offered(*declared: set[str]) -> WorkerResources:
    return WorkerResources(tuple(map(frozenset, declared)), frozenset({"here"}))


def test_cpu_tasks_go_to_any_worker_where_none_declares_cpu() -> None:
    assert offered(set(), set()).request_for("cpu") == ""
    assert offered({"GPU"}, set()).request_for("cpu") == ""
    assert offered({"cpu"}, set()).request_for("cpu") == "cpu"
    assert offered(set()).request_for("GPU") == "GPU"


def test_missing_resources() -> None:
    assert offered().missing([]) == ["a worker"]
    assert offered(set()).missing(["", "GPU"]) == ["GPU"]
    assert offered({"GPU", "cpu"}, {"cpu"}).missing(["cpu", "GPU", ""]) == []


def test_the_waiting_time_starts_again_after_a_worker_was_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    reported: list[str] = []

    class FakeScheduler:
        address = "tcp://host:8786"

    class FakeClient:
        scheduler = FakeScheduler()

    client: Any = FakeClient()
    waiter = WorkerWaiter(client, 10, reported.append)
    for moment, declared in ((0.0, ()), (9.0, ()), (9.5, ({"cpu"},)), (12.0, ()), (21.0, ())):
        now[0] = moment
        assert waiter.satisfied(offered(*declared), ["cpu"]) == bool(declared)
    now[0] = 22.0
    with pytest.raises(UsageError, match=r"no worker after 10 s .* dask worker tcp://host:8786"):
        waiter.satisfied(offered(), ["cpu"])
    assert reported == ["no worker; waiting up to 10 s"] * 2


def test_each_started_worker_sees_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5f")
    assert workers.cuda_devices("cpu") == ()
    devices = workers.cuda_devices("cuda")
    with start_workers(3, devices) as cluster, Client(cluster) as client:
        info = client.scheduler_info(n_workers=-1)["workers"]
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
        assert {info[address]["name"]: device for address, device in seen.items()} == {
            0: "2", 1: "GPU-5f", 2: "2",
        }  # fmt: skip
        assert WorkerResources.of(client).resources == (frozenset({"GPU", "cpu"}),) * 3


def test_all_workers_use_one_device_and_the_libraries_of_the_driver(job: Job) -> None:
    spec = job.for_workers("cuda")
    assert json.loads(spec.config) == {**json.loads(job.spec.config), "device": "cuda"}
    worker_job = Job.open(spec)
    assert (worker_job.device, worker_job.fingerprints) == ("cuda", job.fingerprints)
    installed = job.for_workers("cpu").environment
    changed = tuple((name, "0" if name == "torch" else version) for name, version in installed)
    with pytest.raises(MismatchError, match=r"has torch .*, not 0 as the driver"):
        Job.open(type(spec)(**{**spec.__dict__, "environment": changed}))
