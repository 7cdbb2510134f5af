"""CUDA graphs: work on a device that is recorded once and then replayed with one launch.

A graph reads and writes the same memory each time and repeats no Python. So numbers that change must be in
tensors that are written in place, and the host must not read any value.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
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
        """A function that repeats the work, which is run or not. Raises RuntimeError if that cannot be."""


class CudaGraphs:
    """CUDA graphs of one device, recorded on their own stream. refused: why nothing more is recorded: a
    recording that fails can leave allocator and stream in a state that torch does not repair.
    """

    refused = ""

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

        try:
            yield lane
        finally:
            for stream in used:
                current.wait_stream(stream)

    def rehearse(self, act: Callable[[], None]) -> None:
        self._begin()
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                for _ in range(2):
                    act()
                with _waiting_is_an_error():
                    act()
        except BaseException:
            torch.cuda.synchronize(self.device)  # what was launched must not write over what is restored
            raise
        current.wait_stream(self.stream)

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        self._begin()
        gc.collect()  # a tensor that is freed during a recording can break it
        current, graph = torch.cuda.current_stream(self.device), torch.cuda.CUDAGraph()
        try:
            # Only this thread is checked, since loggers can have their own threads.
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                act()
        except BaseException as error:
            CudaGraphs.refused = f"an earlier recording failed ({str(error).partition(chr(10))[0]})"
            torch.cuda.set_stream(current)  # torch leaves its own stream set if the recording cannot end
            torch.cuda.synchronize(self.device)
            raise
        return graph.replay

    def _begin(self) -> None:
        if CudaGraphs.refused:
            raise RuntimeError(CudaGraphs.refused)


@cache
def cuda_graphs(device: torch.device) -> CudaGraphs:
    """Those of a device, the same for the whole process: its graphs share one pool of memory."""
    return CudaGraphs(device)


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
