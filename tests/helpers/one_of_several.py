"""What each process of test_several_processes.py does: python one_of_several.py FOLDER.

FOLDER/jobs.json has a list of trainings: name, config, and at which epoch the second process is
killed (0: never). The first trains into FOLDER/first/NAME; the second too, or into
FOLDER/second/NAME where the job says `apart`. At the end no thread of the group may be left.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from m2hf.fuse import curves
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.distributed import ProcessGroup, process_group
from m2hf.fuse.training.run import EpochReport, train
from m2hf.manifest import Manifest


def gather(folder: Path, group: ProcessGroup) -> None:
    """Gather rows whose losses differ from process to process; write what came back."""
    for n in (7, 1):
        torch.manual_seed(n)
        rows, real = torch.randn(n, 3, 2), torch.rand(n) > 0.5
        own = group.share(n)
        mine = rows[own].clone().requires_grad_()
        gathered, flags = group.gather(n, mine, real[own])
        weights = torch.randn(group.size, n, 3, 2)
        torch.autograd.backward((weights[group.rank] * gathered).sum())
        assert mine.grad is not None
        found = {
            "given": rows,
            "given_flags": real,
            "weights": weights[:, own].contiguous(),
            "rows": gathered.detach().contiguous(),
            "flags": flags,
            "gradient": mine.grad.contiguous(),
        }
        save_file(found, folder / f"gather{n}of{group.rank}.safetensors")


def main(folder: Path) -> None:
    asked = json.loads((folder / "jobs.json").read_text())
    manifest = Manifest.load(folder / "manifest")
    curves.draw = lambda log, path: None  # which takes longer than all else here
    with process_group() as group:
        gather(folder, group)
        for job in asked["jobs"]:

            def watch(report: EpochReport, kill: int = job["kill"]) -> None:
                if kill and report.epoch == kill and not group.is_main:
                    os.kill(os.getpid(), signal.SIGKILL)

            place = "second" if job["apart"] and not group.is_main else "first"
            config = FusionConfig.model_validate(job["config"])
            train(
                manifest, Path(asked["store"]), folder / place / job["name"], config, watch, group
            )
    left = [thread.read_text().strip() for thread in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in left if "gloo" in name], left


if __name__ == "__main__":
    main(Path(sys.argv[1]))
