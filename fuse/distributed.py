"""The processes that train one model together, and what they tell each other; mostly one alone.

torchrun starts them and says in the environment which one this is. Each encodes and scores its
share of a batch. Rows are gathered with their gradients, so that every process has the loss of
the whole batch, and the parameters' gradients are averaged, so that all take the same step. No
pickles: only numbers are sent, by gloo on the CPU and by NCCL on CUDA.

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
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from m2hf.errors import EXIT_CRASH, EXIT_USAGE, M2hfError, MismatchError, UsageError
from m2hf.keys import canonical_json, sha256_hex

_CPU = torch.device("cpu")
_ENVIRONMENT = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # of torchrun


class PeerLost(M2hfError):
    """Another process of the run ended or can't be reached."""


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`, the `local`-th on its machine, and the device that it works on.

    With one process every method gives back what it is given.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    device: torch.device = _CPU

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Which of `n` rows this process has; one all the same where there are fewer rows than
        processes, which `gather` then leaves out: no model need know of empty batches."""
        start = sum(self._counts(n)[: self.rank])
        count = self._counts(n)[self.rank]
        return slice(start, start + count) if count else slice(0, 1)

    def gather(self, n: int, *parts: Tensor) -> tuple[Tensor, ...]:
        """All `n` rows of each part, in order, of which every process gives its share; what
        follows the first dimension must be alike. Gradients flow back to whom a row is from."""
        if self.size == 1:
            return parts
        count = self._counts(n)[self.rank]
        widths = [part[0].numel() for part in parts]
        given = zip(parts, widths, strict=True)
        mine = torch.cat([part[:count].reshape(count, w).float() for part, w in given], dim=1)
        whole: Tensor = _Gather.apply(mine, self, n)  # type: ignore[no-untyped-call]
        columns = zip(torch.split(whole, widths, dim=1), parts, strict=True)
        return tuple(c.reshape(n, *part.shape[1:]).to(part.dtype) for c, part in columns)

    def average(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the mean gradient; which parameters have one must be alike."""
        if self.size > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            _unpack(self.sum(flat) / self.size, gradients)

    def take_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors`, of floats, with those of the first process."""
        if self.size > 1:
            listed = [tensor.detach() for tensor in tensors]
            flat = torch.cat([tensor.flatten() for tensor in listed])
            with _peers():
                dist.broadcast(flat, src=0)
            _unpack(flat, listed)

    def first_says(self, numbers: Sequence[float]) -> list[float]:
        """The numbers of the first process."""
        if self.size == 1:
            return list(numbers)
        said = torch.tensor(numbers, dtype=torch.float64)
        self.take_first([said])
        return [float(number) for number in said]

    def check_alike(self, read: Any) -> None:
        """Raises MismatchError in a process that has `read`, which JSON can hold, other than the
        first has."""
        if self.size == 1:
            return
        digest = bytes.fromhex(sha256_hex(canonical_json(read).encode()))
        mine = [float(byte) for byte in digest]
        if self.first_says(mine) != mine:
            raise MismatchError(
                f"process {self.rank} of {self.size} reads another config, manifest, features or "
                "run in progress than the first; give all of them the same folders"
            )

    def seed(self, seed: int, epoch: int) -> None:
        """Where there are several, draw from here on what depends on these and the rank alone,
        so that a run which is gone on with draws the same."""
        if self.size > 1:
            state = np.random.SeedSequence([seed, epoch, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(state[0]))

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            self.sum(torch.zeros(1))

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor`, overwritten with its sum over processes."""
        with _peers():
            dist.all_reduce(tensor)
        return tensor

    def collect(self, mine: Tensor, n: int) -> Tensor:
        """(n, C) of the (share, C) that every process has; no gradient."""
        counts = self._counts(n)
        padded = mine.new_zeros((max(counts), mine.shape[1]))
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in counts]
        with _peers():
            dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def _counts(self, n: int) -> list[int]:
        return [n // self.size + (rank < n % self.size) for rank in range(self.size)]


ALONE = World()


class _Gather(torch.autograd.Function):
    """`World.collect`, and its adjoint: the gradient of a row is the sum over processes.

    All have the same loss, so that this is R times the gradient of one loss, and the mean over
    processes of a parameter's gradient is the gradient of the loss, wherever it is used.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor, world: World, n: int) -> Tensor:
        ctx.world, ctx.n, ctx.count = world, n, len(mine)
        return world.collect(mine, n)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        total = ctx.world.sum(gradient.contiguous().clone())
        return total[ctx.world.share(ctx.n)][: ctx.count], None, None


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that torchrun started; without it, this process alone.

    Of an error that several meet, or that one brings upon the others, the first to have it
    raises it; the others end without a word. Raises UsageError for half an environment, PeerLost
    where the others can't be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
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
            f"({str(error).splitlines()[0]}); start them with torchrun, on hosts that reach it"
        ) from error
    try:
        yield World(rank, size, int(os.environ["LOCAL_RANK"]))
    except (M2hfError, KeyboardInterrupt) as error:
        # The group is left as it is: taking leave could wait for a process that is gone.
        if _is_first(store):
            raise
        code = error.exit_code if isinstance(error, M2hfError) else EXIT_CRASH
        raise SystemExit(code) from None
    else:
        dist.destroy_process_group()


def refuse_several(verb: str) -> None:
    """Raises UsageError where torchrun started several processes, of which each would do all of
    `verb`; the first says so, and the others end without a word."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return
    if os.environ.get("RANK", "0") != "0":
        raise SystemExit(EXIT_USAGE)
    raise UsageError(
        f"m2hf {verb} is one process, but WORLD_SIZE={size}: each would do all of it and write "
        "the same file; start it without torchrun, or unset WORLD_SIZE"
    )


def _is_first(store: Any) -> bool:
    try:
        return int(store.add("m2hf/ended", 1)) == 1
    except RuntimeError:  # the store was in a process that is gone
        return True


@contextmanager
def _peers() -> Iterator[None]:
    """Inside, what torch raises is that another process doesn't answer."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(
            "another process of the run ended or can't be reached; "
            "run the same command again to go on from the last epoch"
        ) from error


def _unpack(flat: Tensor, into: Sequence[Tensor]) -> None:
    for part, tensor in zip(torch.split(flat, [t.numel() for t in into]), into, strict=True):
        tensor.copy_(part.view_as(tensor))
