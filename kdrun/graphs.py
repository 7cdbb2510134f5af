"""Graphs: work on a device that is recorded once and then repeated with one launch.

What is recorded reads and writes the same memory each time, and nothing that Python does is repeated: numbers
that change must lie in tensors that are written in place, and nothing may be read on the host.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch

Lane = Callable[[int], AbstractContextManager[Any]]
"""By number: what is done in one lane may go on beside what is done in another."""

Lanes = Callable[[], AbstractContextManager[Lane]]
"""A block with lanes; at its end all of them are waited for (on the device, not on the host)."""


@contextmanager
def one_lane() -> Iterator[Lane]:
    """One thing after the other."""
    yield lambda number: nullcontext()


class Graphs(Protocol):
    """Records work; what it has recorded shares memory, so one graph must not read what another has made."""

    def lanes(self) -> AbstractContextManager[Lane]:
        """See `Lanes`. What is made in no lane may be read in all, and must be kept until the end."""

    def rehearse(self, act: Callable[[], None]) -> None:
        """Does it a few times on the stream that will record it: libraries choose and allocate then.

        Raises RuntimeError if it waits for the device, which no graph can do.
        """

    def record(self, act: Callable[[], None]) -> Callable[[], None]:
        """A function that does it again each time. Recording itself may or may not do it.

        Raises RuntimeError for what cannot be recorded.
        """


class CudaGraphs:
    """CUDA graphs of one device, recorded on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()
        self.beside: dict[int, torch.cuda.Stream] = {}

    @contextmanager
    def lanes(self) -> Iterator[Lane]:
        whole, used = torch.cuda.current_stream(self.device), set[torch.cuda.Stream]()

        def lane(number: int) -> AbstractContextManager[Any]:
            if number not in self.beside:
                self.beside[number] = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            stream = self.beside[number]
            stream.wait_stream(whole)
            used.add(stream)
            return torch.cuda.stream(stream)

        yield lane
        for stream in used:
            whole.wait_stream(stream)

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
        gc.collect()  # what is freed in the midst of a recording may break it
        graph = torch.cuda.CUDAGraph()
        # Only what this thread does counts: loggers may have threads of their own.
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
            act()
        return graph.replay


@contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    """So that it is found before a recording, which does not always recover from it."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it may not notice all
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
