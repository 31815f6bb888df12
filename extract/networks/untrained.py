"""Untrained weights: how they are drawn, flagged, and named in a fingerprint."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

UNTRAINED = "untrained"  # the flag of everything computed with them


def origin(seed: int) -> str:
    """What stands in a fingerprint in place of a weight file's sha256."""
    return f"{UNTRAINED}: seed {seed}, torch {version('torch')}"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's CPU generator seeded with `seed`; its state is restored afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
