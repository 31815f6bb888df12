"""The device of a run, and the settings that make it bit-reproducible."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from m2hf.errors import UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.distributed import SINGLE_PROCESS, ProcessGroup


def choose_device(wanted: str) -> torch.device:
    """The device called `wanted`; "auto" chooses CUDA, then MPS, then the CPU.

    Raises UsageError where torch has no such device on this machine.
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
        raise UsageError(
            f"fuse.device={wanted}: torch has none on this machine; available: {there}"
        )
    return torch.device(wanted)


def _own(device: torch.device, group: ProcessGroup) -> torch.device:
    """The device of this process: with several processes, the GPU of its local rank."""
    if group.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UsageError(
            f"fuse.device={device.type}: several processes train on cuda or cpu; "
            "start one process, or --set fuse.device=cpu"
        )
    if group.local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"process {group.local_rank} of this machine finds {torch.cuda.device_count()} GPUs; "
            "start as many processes as there are GPUs, or --set fuse.device=cpu"
        )
    own = torch.device("cuda", group.local_rank)
    torch.cuda.set_device(own)
    return own


@contextmanager
def repeatable(
    config: FusionConfig, group: ProcessGroup = SINGLE_PROCESS
) -> Iterator[torch.device]:
    """Context in which the same seed on the same kind of device gives the same bits.

    torch's threads, RNG state and determinism switch are restored at the end.
    """
    device = _own(choose_device(config.device), group)
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if device.type == "cuda":  # without a fixed workspace cuBLAS may sum in another order
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
