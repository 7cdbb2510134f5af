"""Ranks that are threads of one process, for tests of what they compute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from kdrun.ranks import Ranks

Result = TypeVar("Result")


ONE_GENERATOR = threading.Lock()
"""Threads have the global generator in common."""


class Room:
    """Where the threads exchange tensors."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=30)
        self.slots: list[Any] = [None] * count


class Thread(Ranks):
    """One of `count` threads."""

    def __init__(self, rank: int, room: Room) -> None:
        super().__init__()
        self.rank, self.count, self.room = rank, len(room.slots), room

    @contextmanager
    def same_draws(self) -> Iterator[None]:
        with ONE_GENERATOR, super().same_draws():
            yield

    def meet(self) -> None:
        self.room.barrier.wait()

    def broadcast(self, tensor: Tensor) -> None:
        tensor.copy_(self.collect(tensor)[0])

    def sum(self, tensor: Tensor) -> None:
        tensor.copy_(torch.stack(self.collect(tensor)).sum(0))

    def collect(self, tensor: Tensor) -> list[Tensor]:
        assert tensor.is_contiguous()
        self.room.slots[self.rank] = tensor.detach().clone()
        self.meet()
        every = [slot.clone() for slot in self.room.slots]
        self.meet()
        assert len({slot.shape for slot in every}) == 1
        return every


def on_threads(count: int, work: Callable[[Ranks], Result]) -> list[Result]:
    """What `work` returns on each rank. Raises the first error."""
    room, results, errors = Room(count), dict[int, Result](), list[BaseException]()

    def one(rank: int) -> None:
        try:
            results[rank] = work(Thread(rank, room))
        except BaseException as error:
            errors.append(error)
            room.barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    assert not errors
    return [results[rank] for rank in range(count)]
