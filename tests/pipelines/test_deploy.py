"""The cluster templates call the command with options it has; no batch system is needed here."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT

from m2hf.pipelines.executors import ArrayExecutor

DEPLOY = ROOT / "pipelines" / "deploy"
FLAGS = {"--manifest", "--media", "--store"}


def bash(
    script: str, *arguments: str, fake: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a script with fake `m2hf` and `dask` that print their arguments."""
    for name in ("m2hf", "dask"):
        program = fake / name
        program.write_text(
            f'#!/usr/bin/env bash\nprintf "%s\\n" "{name} $* on ${{CUDA_VISIBLE_DEVICES-}}"\n',
            encoding="utf-8",
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = f"{fake}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(DEPLOY / script), *arguments],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("script", ["slurm_array.sbatch", "gpus.sh", "tls.sh"])
def test_scripts_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n", str(DEPLOY / script)], check=True)


def test_slurm_job_script() -> None:
    code = """
from m2hf.pipelines.deploy.slurm_dask import slurm_cluster

with slurm_cluster() as cluster:
    print(cluster.job_script())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DASK_CONFIG": str(DEPLOY / "jobqueue.yaml")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for directive in ("-p gpu", "--cpus-per-task=4", "--mem=15G", "-t 04:00:00", "--gres=gpu:1"):
        assert f"#SBATCH {directive}" in lines
    (command,) = [line for line in lines if "distributed.cli.dask_worker" in line]
    assert "--nthreads 1" in command
    assert "--resources GPU=1,cpu=1 --memory-limit 0 --lifetime 225m" in command


def shares(fake: Path, **changed: str) -> list["subprocess.CompletedProcess[str]"]:
    environment = {
        "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "3", "SLURM_ARRAY_TASK_COUNT": "4",
    }  # fmt: skip
    return [
        bash(
            "slurm_array.sbatch", "--store", "a store", fake=fake,
            SLURM_ARRAY_TASK_ID=str(i), **(environment | changed),
        )
        for i in range(4)
    ]  # fmt: skip


def test_a_slurm_array_has_all_shares(tmp_path: Path) -> None:
    said = [done.stdout for done in shares(tmp_path)]
    assert said == [f"m2hf extract --array {i}/4 --store a store on \n" for i in range(4)]
    found = [ArrayExecutor.parse(text.split()[3]) for text in said]
    assert found == [ArrayExecutor(i, 4) for i in range(4)]


def test_a_part_of_a_slurm_array_is_refused(tmp_path: Path) -> None:
    for done in shares(tmp_path, SLURM_ARRAY_TASK_COUNT="2"):
        assert (done.returncode, done.stdout) == (2, "")
        assert "submit the whole --array=0-N" in done.stderr


def test_a_worker_for_each_gpu(tmp_path: Path) -> None:
    done = bash("gpus.sh", "tcp://lab:8786", fake=tmp_path, CUDA_VISIBLE_DEVICES="0,3")
    assert done.returncode == 0, done.stderr
    worker = "dask worker tcp://lab:8786 --nthreads 1 --memory-limit 0 --no-dashboard"
    assert sorted(done.stdout.splitlines()) == [
        f"{worker} --resources GPU=1 cpu=1 on {device}" for device in "03"
    ]


def manifests(file: str) -> dict[tuple[str, str], Any]:
    with (DEPLOY / file).open(encoding="utf-8") as stream:
        return {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(stream)}


def container(document: Any) -> Any:
    (only,) = document["spec"]["template"]["spec"]["containers"]
    return only


def test_the_indexed_job_does_all_shares() -> None:
    job = manifests("kubernetes_job.yaml")["Job", "m2hf-extract"]
    pod, spec = container(job), job["spec"]
    assert spec["completionMode"] == "Indexed"
    command = pod["command"] + pod["args"]
    assert command[:3] == ["m2hf", "extract", "--array"]
    share = command[3].replace("$(JOB_COMPLETION_INDEX)", "0")
    assert ArrayExecutor.parse(share) == ArrayExecutor(0, spec["completions"])
    assert set(command[4::2]) == FLAGS


def test_the_dask_pods_find_each_other() -> None:
    found = manifests("kubernetes_dask.yaml")
    service = found["Service", "m2hf-scheduler"]
    scheduler = found["Deployment", "m2hf-scheduler"]
    labels = scheduler["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    address = "tcp://m2hf-scheduler:8786"
    worker = container(found["Deployment", "m2hf-worker"])
    assert worker["command"] == ["dask", "worker", address]
    assert worker["args"][-2:] == ["--resources", "GPU=1 cpu=1"]
    driver = container(found["Job", "m2hf-driver"])
    assert driver["command"] == ["m2hf", "extract", "--scheduler", address]
    assert set(driver["args"][::2]) == FLAGS
    assert container(scheduler)["ports"] == [{"containerPort": 8786}]
    assert service["spec"]["ports"] == [{"port": 8786}]
