"""Where tensors live, and the settings that make a run repeat itself to the bit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from m2hf.errors import UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.distributed import ALONE, World


def choose_device(wanted: str) -> torch.device:
    """The device called `wanted`; "auto" takes CUDA, then MPS, then the CPU.

    Raises UsageError where the machine hasn't got it.
    """
    have = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        wanted = next(name for name, there in have.items() if there)
    if not have[wanted]:
        there = ", ".join(name for name in have if have[name])
        raise UsageError(f"fuse.device={wanted}: torch finds none here; it has {there}")
    return torch.device(wanted)


def _own(device: torch.device, world: World) -> torch.device:
    """The one of its kind that this process works on."""
    if world.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UsageError(
            f"fuse.device={device.type}: several processes train on cuda or cpu; "
            "start one process, or --set fuse.device=cpu"
        )
    if world.local >= torch.cuda.device_count():
        raise UsageError(
            f"process {world.local} of this machine finds {torch.cuda.device_count()} GPUs; "
            "start as many processes as there are GPUs, or --set fuse.device=cpu"
        )
    own = torch.device("cuda", world.local)
    torch.cuda.set_device(own)
    return own


@contextmanager
def repeatable(config: FusionConfig, world: World = ALONE) -> Iterator[torch.device]:
    """Inside, the same seed on the same kind of device gives the same bits; torch's threads,
    random state and switches are as before afterwards."""
    device = _own(choose_device(config.device), world)
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if device.type == "cuda":  # without a fixed workspace cuBLAS may add in another order
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cuda = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.set_num_threads(config.threads)
        torch.use_deterministic_algorithms(device.type != "mps")
        torch.manual_seed(config.train.seed)
        try:
            yield device
        finally:
            torch.use_deterministic_algorithms(strict)
            torch.set_num_threads(threads)
