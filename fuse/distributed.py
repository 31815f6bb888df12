"""Data-parallel training: the process group that torchrun starts; a no-op with one process.

Each process encodes and scores its share of a batch. Rows are gathered with their gradients, so
that every process computes the loss of the whole batch, and the parameters' gradients are
averaged, so that all processes take the same step. No pickles: only numbers are sent, by gloo on
the CPU and by NCCL on CUDA.

n rows of a batch, of which each process has a share; R processes.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

# Its functions have the process group of the moment of import as a default argument. The first
# step of an optimiser imports it: with a group by then, `destroy_process_group` would leave gloo's
# threads running, and one of them can abort the process while the interpreter exits.
import torch.distributed.nn.functional
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from m2hf.errors import (
    EXIT_CRASH,
    EXIT_USAGE,
    M2hfError,
    MismatchError,
    UsageError,
    first_line,
)
from m2hf.keys import canonical_json, sha256_hex

_CPU = torch.device("cpu")
_ENVIRONMENT = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # of torchrun


class PeerLost(M2hfError):
    """Another process of the run ended or can't be reached."""


@dataclass(frozen=True)
class ProcessGroup:
    """Process `rank` of `size`, the `local_rank`-th on its machine, and the device it works on.

    With one process every method returns its input.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = _CPU

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Which of `n` rows this process works on.

        With fewer rows than processes a process without a row gets row 0, which `gather` leaves
        out again, so that no model has to handle an empty batch.
        """
        start = sum(self._counts(n)[: self.rank])
        count = self._counts(n)[self.rank]
        return slice(start, start + count) if count else slice(0, 1)

    def gather(self, n: int, *parts: Tensor) -> tuple[Tensor, ...]:
        """All `n` rows of each part in order; each process gives the rows of its share.

        Shapes after the first dimension must be equal in all processes. Gradients flow back to
        the process that a row came from.
        """
        if self.size == 1:
            return parts
        count = self._counts(n)[self.rank]
        widths = [part[0].numel() for part in parts]
        given = zip(parts, widths, strict=True)
        own = torch.cat([part[:count].reshape(count, w).float() for part, w in given], dim=1)
        whole: Tensor = _Gather.apply(own, self, n)  # type: ignore[no-untyped-call]
        columns = zip(torch.split(whole, widths, dim=1), parts, strict=True)
        return tuple(c.reshape(n, *part.shape[1:]).to(part.dtype) for c, part in columns)

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by the mean over processes; the same parameters must have one."""
        if self.size > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            _unflatten(self.all_reduce(flat) / self.size, gradients)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors`, of floats, with those of process 0."""
        if self.size > 1:
            listed = [tensor.detach() for tensor in tensors]
            flat = torch.cat([tensor.flatten() for tensor in listed])
            with _peer_errors():
                dist.broadcast(flat, src=0)
            _unflatten(flat, listed)

    def broadcast_numbers(self, numbers: Sequence[float]) -> list[float]:
        """The numbers of process 0."""
        if self.size == 1:
            return list(numbers)
        sent = torch.tensor(numbers, dtype=torch.float64)
        self.broadcast([sent])
        return [float(number) for number in sent]

    def check_equal(self, value: Any) -> None:
        """Raises MismatchError in a process whose `value`, which must be JSON, is not equal to
        that of process 0."""
        if self.size == 1:
            return
        digest = bytes.fromhex(sha256_hex(canonical_json(value).encode()))
        own = [float(byte) for byte in digest]
        if self.broadcast_numbers(own) != own:
            raise MismatchError(
                f"process {self.rank} of {self.size} reads another config, manifest, features or "
                "interrupted run than process 0; give all of them the same folders"
            )

    def seed(self, seed: int, epoch: int) -> None:
        """With several processes, seed torch's RNG by seed, epoch and rank alone, so that a
        resumed run draws the same numbers."""
        if self.size > 1:
            state = np.random.SeedSequence([seed, epoch, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(state[0]))

    def barrier(self) -> None:
        """Return when all processes have reached this call."""
        if self.size > 1:
            self.all_reduce(torch.zeros(1))

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """`tensor`, overwritten with its sum over processes."""
        with _peer_errors():
            dist.all_reduce(tensor)
        return tensor

    def all_gather(self, own: Tensor, n: int) -> Tensor:
        """(n, C) from the (share, C) of each process; no gradient."""
        counts = self._counts(n)
        padded = own.new_zeros((max(counts), own.shape[1]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        with _peer_errors():
            dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def _counts(self, n: int) -> list[int]:
        return [n // self.size + (rank < n % self.size) for rank in range(self.size)]


SINGLE_PROCESS = ProcessGroup()


class _Gather(torch.autograd.Function):
    """`ProcessGroup.all_gather` and its adjoint: a row's gradient is the sum over processes.

    All processes compute the same loss, so this sum is R times the gradient of one loss, and the
    mean over processes of a parameter's gradient is the gradient of the loss.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, group: ProcessGroup, n: int) -> Tensor:
        ctx.group, ctx.n, ctx.count = group, n, len(own)
        return group.all_gather(own, n)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        total = ctx.group.all_reduce(gradient.contiguous().clone())
        return total[ctx.group.share(ctx.n)][: ctx.count], None, None


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started; without torchrun, a group of this process alone.

    Where an error occurs in several processes, or the error of one makes the others fail, the
    first process that failed raises it and the others exit silently. Raises UsageError where the
    environment of torchrun is incomplete, PeerLost where the other processes can't be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield SINGLE_PROCESS
        return
    missing = [name for name in _ENVIRONMENT if name not in os.environ]
    if missing:
        raise UsageError(
            f"the environment has WORLD_SIZE={size} without {', '.join(missing)}; "
            "start the processes with torchrun, or unset WORLD_SIZE"
        )
    cuda = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        store, rank, size = next(rendezvous("env://"))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=size
        )
    except (RuntimeError, ValueError) as error:
        rank, host, port = (os.environ[x] for x in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
        raise PeerLost(
            f"process {rank} of {size} can't join the others at {host}:{port} "
            f"({first_line(error)}); start them with torchrun, on hosts that reach it"
        ) from error
    try:
        yield ProcessGroup(rank, size, int(os.environ["LOCAL_RANK"]))
    except (M2hfError, KeyboardInterrupt) as error:
        # The group is not destroyed here: that could wait for a process that has ended.
        if _is_first_failure(store):
            raise
        code = error.exit_code if isinstance(error, M2hfError) else EXIT_CRASH
        raise SystemExit(code) from None
    else:
        dist.destroy_process_group()


def require_single_process(verb: str) -> None:
    """Raises UsageError in process 0 where torchrun started several processes, each of which
    would do all of `verb`; the other processes exit silently."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return
    if os.environ.get("RANK", "0") != "0":
        raise SystemExit(EXIT_USAGE)
    raise UsageError(
        f"m2hf {verb} is one process, but WORLD_SIZE={size}: each would do all of it and write "
        "the same file; start it without torchrun, or unset WORLD_SIZE"
    )


def _is_first_failure(store: Any) -> bool:
    try:
        return int(store.add("m2hf/ended", 1)) == 1
    except RuntimeError:  # the store was in a process that has ended
        return True


@contextmanager
def _peer_errors() -> Iterator[None]:
    """Turn torch's RuntimeError into PeerLost: another process doesn't answer."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(
            "another process of the run ended or can't be reached; "
            "run the same command again to resume from the last epoch"
        ) from error


def _unflatten(flat: Tensor, into: Sequence[Tensor]) -> None:
    for part, tensor in zip(torch.split(flat, [t.numel() for t in into]), into, strict=True):
        tensor.copy_(part.view_as(tensor))
