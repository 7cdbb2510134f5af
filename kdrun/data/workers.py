"""Processes that read images beside the one that trains, whose Python lock they would only wait for.

A process is asked over its standard input, and writes pixels into memory that both see and that has no name.
So whichever way the process that trains ends, that input ends too, its workers with it, and nothing is left.
They import neither torch nor the program that was started, unless what reads the images does.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from kdrun.errors import KdrunError

Pixels = NDArray[np.uint8]
Shape = tuple[int, ...]
Read = Callable[[Any], Pixels]
"""From what stands for an image to its pixels (C, H, W)."""

Wait = Callable[[], object]
"""Returns when something is done, and raises what it raised."""

CHUNK = 8
"""So many images a process is asked for at once."""

POSSIBLE = os.name == "posix"
"""Elsewhere a process is not given open files."""

PROGRAM = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from kdrun.data.workers import serve
serve()
"""


class Workers:
    """So many processes that read images; with none, they are read by whoever waits for them.

    read: pickled, so it must be found by its name. shape: of each image, (C, H, W).
    """

    def __init__(self, read: Read, shape: Shape, count: int) -> None:
        self.read = read
        self.all = [Worker(read, shape) for _ in range(count)]
        self.idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.all:
            self.idle.put(worker)
        self.threads = ThreadPoolExecutor(count) if count else None

    def fill(self, items: Sequence[Any], give: Callable[[int, Pixels], None]) -> list[Wait]:
        """Begins to read items. give: called with each one's position and pixels, in a thread of this
        process; the pixels are written over later.
        """
        chunks = range(0, len(items), CHUNK)
        return [
            self.begin(partial(self._read, items[first : first + CHUNK], first, give)) for first in chunks
        ]

    def begin(self, act: Callable[[], object]) -> Wait:
        """Has it done in a thread, where there are workers, else when it is waited for."""
        return self.threads.submit(act).result if self.threads else act

    def _read(self, items: Sequence[Any], first: int, give: Callable[[int, Pixels], None]) -> None:
        if not self.all:
            for position, item in enumerate(items, first):
                give(position, self.read(item))
            return
        worker = self.idle.get()
        try:
            for position, pixels in enumerate(worker(items), first):
                give(position, pixels)
        finally:
            self.idle.put(worker)

    def close(self) -> None:
        """Ends them at once, whatever they do; what is still waited for raises."""
        for worker in self.all:
            worker.process.kill()
        if self.threads:
            self.threads.shutdown(cancel_futures=True)
        for worker in self.all:
            worker.close()


class Worker:
    """One process. Called with up to CHUNK items, gives their pixels, (M, C, H, W), until the next call."""

    def __init__(self, read: Read, shape: Shape) -> None:
        size = CHUNK * math.prod(shape)
        with _nameless(size) as file:
            self.pixels = _pixels(file.fileno(), shape)
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[file.fileno()],
                start_new_session=True,  # Ctrl-C is for the process that trains
            )
            self._send(sys.path, (file.fileno(), shape, pickle.dumps(read)))

    def __call__(self, items: Sequence[Any]) -> Pixels:
        """Raises what reading raised, and KdrunError where the process has ended."""
        with suppress(OSError):  # if it has ended, it says no more
            self._send(list(items))
        self._answer(items)
        return self.pixels[: len(items)]

    def _send(self, *things: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(map(pickle.dumps, things)))
        self.process.stdin.flush()

    def _answer(self, items: Sequence[Any]) -> None:
        assert self.process.stdout is not None
        try:
            error: Exception | None = pickle.load(self.process.stdout)
        except (EOFError, OSError, ValueError) as ended:
            problem = f"a process that reads images has ended (status {self.process.wait()}) at one of these"
            problem = f"{problem}: {', '.join(map(str, items))}; fewer processes take less memory"
            raise KdrunError("runtime.workers", None, problem) from ended
        if error is not None:
            raise error

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


def serve() -> None:
    """What a worker does until its standard input ends."""
    asked, told = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a user's class prints is no answer
    try:
        file, shape, read = pickle.load(asked)
        pixels, load = _pixels(file, shape), functools.lru_cache(pickle.loads)
        while True:
            items = pickle.load(asked)
            told.write(pickle.dumps(_attempt(lambda: load(read), items, pixels)))
            told.flush()
    except (EOFError, BrokenPipeError):
        os._exit(0)  # who asked has ended; there is nothing to be flushed


def _attempt(load: Callable[[], Read], items: Sequence[Any], pixels: Pixels) -> Exception | None:
    """Reads the items' pixels. What went wrong, as an exception that another process can be told."""
    try:
        read = load()
        for position, item in enumerate(items):
            pixels[position] = read(item)
    except KdrunError as error:
        return error
    except Exception:
        return RuntimeError("in a process that reads images:\n" + traceback.format_exc())
    return None


def _nameless(size: int) -> IO[bytes]:
    """A file of a size, which is nowhere in the file system."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("kdrun"), "r+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(size)
    return file


def _pixels(file: int, shape: Shape) -> Pixels:
    """What the file holds, CHUNK images of a shape."""
    memory = mmap.mmap(file, CHUNK * math.prod(shape))
    return np.frombuffer(memory, np.uint8).reshape(CHUNK, *shape)
