"""CUDA graphs: work on a device that is recorded once and then replayed with one launch.

A graph reads and writes the same memory each time and repeats no Python. So numbers that change must be in
tensors that are written in place, and the host must not read any value.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch

Lane = Callable[[int], AbstractContextManager[Any]]
"""A lane by its number. Work in different lanes can run at the same time."""

Lanes = Callable[[], AbstractContextManager[Lane]]
"""A block with lanes. At its end the device, not the host, waits for all of them."""


@contextmanager
def one_lane() -> Iterator[Lane]:
    """Lanes that do all work in order."""
    yield lambda number: nullcontext()


class Graphs(Protocol):
    """Records work. All graphs share memory, so one must not read the results of another."""

    def lanes(self) -> AbstractContextManager[Lane]:
        """See `Lanes`. All lanes can read a tensor from outside, which must live until the block ends."""

    def rehearse(self, act: Callable[[], None]) -> None:
        """Runs the work a few times on the stream that will record it, so that libraries choose and allocate.

        Raises RuntimeError if the work waits for the device, which no graph can do.
        """

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        """Returns a function that repeats the work. Recording may run the work or not.

        Raises RuntimeError if the work cannot be recorded.
        """


class CudaGraphs:
    """CUDA graphs of one device, recorded on their own stream."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()
        self.beside: dict[int, torch.cuda.Stream] = {}

    @contextmanager
    def lanes(self) -> Iterator[Lane]:
        current, used = torch.cuda.current_stream(self.device), set[torch.cuda.Stream]()

        def lane(number: int) -> AbstractContextManager[Any]:
            if number not in self.beside:
                self.beside[number] = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            stream = self.beside[number]
            stream.wait_stream(current)
            used.add(stream)
            return torch.cuda.stream(stream)

        yield lane
        for stream in used:
            current.wait_stream(stream)

    def rehearse(self, act: Callable[[], None]) -> None:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            for _ in range(2):
                act()
            with _waiting_is_an_error():
                act()
        current.wait_stream(self.stream)

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        gc.collect()  # a tensor that is freed during a recording can break it
        graph = torch.cuda.CUDAGraph()
        # Only this thread is checked, since loggers can have their own threads.
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
            act()
        return graph.replay


@contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    """Finds waiting before a recording, which does not always recover from it."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that it does not notice all of it
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
