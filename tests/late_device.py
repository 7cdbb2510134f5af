"""A device that works late, without a GPU: what is launched on a stream is done only when someone waits.

It stands for the parts of `torch.cuda` that recordings use. Work that nobody waits for is done at the end, as
a GPU would do it some time: by then it can write over what was put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stream:
    """Work in the order in which it was launched."""

    def __init__(self, device: Any = None) -> None:
        self.work: list[Callable[[], Any]] = []
        self.done = 0

    def wait_stream(self, other: Stream) -> None:
        """What is launched here from now on comes after all that was launched there until now."""
        until = len(other.work)
        self.work.append(lambda: other.drain(until))

    def drain(self, until: int | None = None) -> None:
        while self.done < (len(self.work) if until is None else until):
            self.done += 1
            self.work[self.done - 1]()


class Graph:
    """A recording."""

    def replay(self) -> None: ...


class Late:
    """`torch.cuda` for `kdrun.graphs`. ending: raised at the end of a broken recording."""

    CUDAGraph = Graph

    def __init__(self) -> None:
        self.default = self.current = Stream()
        self.streams, self.ending, self.recorded = [self.default], list[Exception](), 0

    def Stream(self, device: Any = None) -> Stream:
        self.streams.append(Stream())
        return self.streams[-1]

    def graph_pool_handle(self) -> int:
        return 0

    def current_stream(self, device: Any = None) -> Stream:
        return self.current

    def set_stream(self, stream: Stream) -> None:
        self.current = stream

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Any, pool: Any, stream: Stream, **how: Any) -> Iterator[None]:
        self.current = stream
        self.recorded += 1
        try:
            yield
        finally:
            if self.ending:
                raise self.ending[0]  # as torch, before it sets the stream back
            self.current = self.default

    def launch(self, act: Callable[[], Any]) -> None:
        self.current.work.append(act)

    def synchronize(self, device: Any = None) -> None:
        for stream in self.streams:
            stream.drain()

    def get_sync_debug_mode(self) -> int:
        return 0

    def set_sync_debug_mode(self, mode: Any) -> None: ...
