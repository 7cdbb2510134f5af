"""Ranks: the processes of one training, each with a part of every batch."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from kdrun.errors import KdrunError

Made = TypeVar("Made")

FEWEST = 2
"""Rows of a rank that has any: batch normalisation needs two."""

WAITS = timedelta(days=30)
"""How long a rank waits for the others on the CPU: also while rank 0 evaluates, or waits for a lock. A rank
that dies closes its connections, which ends the wait at once."""


FIRST = 5.0
"""Seconds that rank 0 has to say why the run ends, before another rank does."""


class RankLost(KdrunError):
    """Another rank has ended, so that this one cannot go on."""

    while_running = True


def split(rows: int, count: int) -> tuple[int, ...]:
    """The rows of each rank, in order, of a batch: equal up to one, and FEWEST at least or none."""
    some = max(1, min(count, rows // FEWEST))
    ends = [rows * place // some for place in range(some + 1)]
    return (*(until - first for first, until in pairwise(ends)), *[0] * (count - some))


class Ranks:
    """All processes of a training, as one of them sees them; here one alone, which has nothing to exchange.

    rank: its number; rank 0 owns folders, screen and clock. count: of all processes. place, here: the same
    among those on this machine. sizes: the rows of each rank in the present step; empty outside of one. seed:
    of this step.
    """

    rank, count, place, here = 0, 1, 0, 1

    def __init__(self) -> None:
        self.sizes: tuple[int, ...] = ()
        self.seed = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        """The same: a copied model is on the same ranks."""
        return self

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def meet(self) -> None:
        """Returns when all ranks are here."""

    def broadcast(self, tensor: Tensor) -> None:
        """Fills a contiguous tensor with that of rank 0."""

    def sum(self, tensor: Tensor) -> None:
        """Fills a contiguous tensor with its sum over ranks: the same bits on each."""

    def collect(self, tensor: Tensor) -> list[Tensor]:
        """The contiguous tensors of all ranks, in order. They have one shape."""
        return [tensor]

    @contextmanager
    def sharing(self, rows: int, seed: int = 0) -> Iterator[None]:
        """Within the block, a step: its batch of `rows` rows is shared out."""
        self.sizes, self.seed = split(rows, self.count), seed
        try:
            yield
        finally:
            self.sizes = ()

    def span(self, rows: int) -> slice:
        """This rank's part of a batch of so many rows. A rank that has none takes the first FEWEST instead,
        which do not count (`sizes`), so that it takes part in every computation.
        """
        sizes = split(rows, self.count)
        first, own = sum(sizes[: self.rank]), sizes[self.rank]
        return slice(first, first + own) if own else slice(0, FEWEST)

    def counted(self, tensor: Tensor) -> Tensor:
        """Those of this rank's rows that count in the present step."""
        return tensor[: self.sizes[self.rank]]

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over ranks, without a gradient."""
        summed = tensor.detach().clone(memory_format=torch.contiguous_format)
        self.sum(summed)
        return summed

    def joined(self, tensor: Tensor) -> Tensor:
        """(n, ...) of this rank to (N, ...) of all, in order, in the present step: see `Joined`."""
        joined: Tensor = Joined.apply(self.counted(tensor), self)
        return joined

    def gathered(self, tensor: Tensor, sizes: Sequence[int]) -> Tensor:
        """(n, ...) of this rank to (N, ...) of all, in order, without a gradient. sizes: the n of each."""
        if self.count == 1:
            return tensor.detach()
        kind = torch.uint8 if tensor.dtype == torch.bool else tensor.dtype
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]), dtype=kind)
        padded[: len(tensor)] = tensor.detach()
        every = self.collect(padded)
        joined = torch.cat([part[:size] for part, size in zip(every, sizes, strict=True)])
        return joined.to(tensor.dtype)

    @torch.no_grad()
    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Fills tensors with those of rank 0."""
        for tensor in tensors if self.count > 1 else ():
            whole = tensor.detach().contiguous()
            self.broadcast(whole)
            tensor.copy_(whole)

    def shared(self, make: Callable[[], Made]) -> Made:
        """What rank 0 makes, on every rank: plain values and tensors."""
        if self.count == 1:
            return make()
        content, made = b"", None
        if self.leads:
            made, buffer = make(), io.BytesIO()
            torch.save(made, buffer)
            content = buffer.getvalue()
        length = torch.tensor(len(content))
        self.broadcast(length)
        whole = torch.empty(int(length), dtype=torch.uint8)
        if self.leads:
            whole = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        self.broadcast(whole)
        if made is None:
            made = torch.load(io.BytesIO(whole.numpy().tobytes()), map_location="cpu", weights_only=True)
        return made

    @contextmanager
    def same_draws(self) -> Iterator[None]:
        """Within the block, all ranks draw the same random numbers in the present step."""
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        with torch.random.fork_rng([torch.cuda.current_device()] if used else []):
            torch.manual_seed(self.seed)
            yield


class Joined(torch.autograd.Function):
    """The rows of all ranks. Each rank then computes the same value of all rows and differentiates its share,
    value / count: the gradient of a rank's own rows is that of the value, so it is `count` times that of the
    share, and nothing is sent in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        ctx.count, ctx.first, ctx.rows = ranks.count, sum(ranks.sizes[: ranks.rank]), len(own)
        return ranks.gathered(own, ranks.sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][ctx.first : ctx.first + ctx.rows] * ctx.count, None


class ProcessGroup(Ranks):
    """Processes of torchrun: gloo on the CPU, nccl on GPUs. Raises RankLost if another one has ended."""

    def __init__(self, place: int, here: int) -> None:
        super().__init__()
        import torch.distributed as distributed

        self.over = distributed
        with _one_line():
            distributed.init_process_group("gloo")
            self.on_cpus: Any = distributed.distributed_c10d.new_group(backend="gloo", timeout=WAITS)
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()
        self.place, self.here = place, here
        self.on_gpus: Any = None

    def meet(self) -> None:
        with _one_line():
            self.over.barrier(self.on_cpus)

    def broadcast(self, tensor: Tensor) -> None:
        with _one_line():
            self.over.broadcast(tensor, 0, self._by(tensor))

    def sum(self, tensor: Tensor) -> None:
        with _one_line():
            self.over.all_reduce(tensor, group=self._by(tensor))

    def collect(self, tensor: Tensor) -> list[Tensor]:
        every = [torch.empty_like(tensor) for _ in range(self.count)]
        with _one_line():
            self.over.all_gather(every, tensor, self._by(tensor))
        return every

    def close(self) -> None:
        """Ends the connections."""
        self.over.destroy_process_group()

    def claims(self) -> bool:
        """Whether this rank is to say why the run ends: rank 0, or the first of the others if it says nothing
        for FIRST seconds. Ends the connections. Without torchrun rank 0 holds the store, so it waits for the
        others as long, which notice that they are alone.
        """
        store, key = self.over.distributed_c10d._get_default_store(), "kdrun/ended"
        with suppress(RuntimeError):  # nobody said anything, or the process that holds the store is gone
            if not self.leads:
                store.wait([key], timedelta(seconds=FIRST))
        try:
            first = bool(store.add(key, 1) == 1)
            self.close()
            until = time.monotonic() + FIRST * self.leads
            while time.monotonic() < until and store.add(key, 0) < self.count:
                time.sleep(0.01)
            return first
        except RuntimeError:
            return True

    def _by(self, tensor: Tensor) -> Any:
        if tensor.device.type != "cuda":
            return self.on_cpus
        if self.on_gpus is None:  # each rank comes here with the same call
            self.on_gpus = self.over.distributed_c10d.new_group(backend="nccl")
        return self.on_gpus


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise
        problem = "another process of this run has ended; the same command continues"
        raise RankLost("torchrun", None, problem) from error


ONE = Ranks()
_present: list[Ranks] = [ONE]


def present() -> Ranks:
    """The ranks of this process."""
    return _present[-1]


@contextmanager
def among(ranks: Ranks) -> Iterator[None]:
    """Within the block, this process is one of these ranks."""
    _present.append(ranks)
    try:
        yield
    finally:
        _present.remove(ranks)
