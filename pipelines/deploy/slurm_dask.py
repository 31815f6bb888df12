"""Run `m2hf extract` on Dask workers that are SLURM jobs, scaled with the load.

On a login node, with a copy of jobqueue.yaml that names your partition and walltime:

    DASK_CONFIG=jobqueue.yaml python -m m2hf.pipelines.deploy.slurm_dask --jobs 16 \
        --manifest MANIFEST --media VIDEOS --store STORE

--jobs is the maximum number of jobs at a time; all other options are passed to `m2hf extract`.
This process computes nothing and returns that command's exit code.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def slurm_cluster() -> Any:
    """A scheduler in this process, without workers yet; its settings are in jobqueue.yaml."""
    from dask_jobqueue import SLURMCluster

    return SLURMCluster()


def main(arguments: Sequence[str]) -> int:
    """Scale between one job and --jobs while `m2hf extract` runs; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, required=True)
    known, extraction = parser.parse_known_args(arguments)
    with slurm_cluster() as cluster:
        # At least one: the run reads the resources of its first worker before it sends tasks.
        cluster.adapt(minimum_jobs=1, maximum_jobs=known.jobs)
        command = [str(Path(sys.executable).with_name("m2hf")), "extract", *extraction]
        with subprocess.Popen([*command, "--scheduler", cluster.scheduler_address]) as driver:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the driver, too
            signal.signal(signal.SIGTERM, lambda *_: driver.terminate())
            return driver.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
