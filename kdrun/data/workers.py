"""Processes that read images beside the one that trains; threads would wait for its Python lock.

A worker gets items over its standard input, and writes pixels into shared memory that has no name. When the
process that trains ends, in whatever way, that input ends, so the workers end too and nothing is left behind.
They import neither torch nor the main program, unless the function that reads the images does.
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
"""From an item, a path or a position, to the image's pixels (C, H, W)."""

Wait = Callable[[], object]
"""Waits until something is done, and raises what that raised."""

CHUNK = 8
"""Images in one request to a process."""

POSSIBLE = os.name == "posix"
"""Other systems do not pass open files to a process."""

PROGRAM = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from kdrun.data.workers import serve
serve()
"""


class Workers:
    """Processes that read images; without any, images are read when they are waited for. read: pickled, so it
    must be found by its name. shape: of each image, (C, H, W).
    """

    def __init__(self, read: Read, shape: Shape, count: int) -> None:
        self.read = read
        self.all = [PixelWorker(read, shape) for _ in range(count)]
        self.idle: SimpleQueue[PixelWorker] = SimpleQueue()
        for worker in self.all:
            self.idle.put(worker)
        self.threads = ThreadPoolExecutor(count) if count else None

    def fill(self, items: Sequence[Any], give: Callable[[int, Pixels], None]) -> list[Wait]:
        """Begins to read items. give: called in a thread with positions and pixels, which are then reused."""
        chunks = range(0, len(items), CHUNK)
        return [
            self.begin(partial(self._read, items[first : first + CHUNK], first, give)) for first in chunks
        ]

    def begin(self, act: Callable[[], object]) -> Wait:
        """Does it in a thread if there are workers, otherwise when it is waited for."""
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
        """Ends the processes at once. What is still waited for raises."""
        for worker in self.all:
            worker.process.kill()
        if self.threads:
            self.threads.shutdown(cancel_futures=True)
        for worker in self.all:
            worker.close()


class PixelWorker:
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
        """Raises what reading raised, and KdrunError if the process has ended."""
        with suppress(OSError):  # if it has ended, reading its answer fails
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
    """The loop of a worker, until its standard input ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that prints of a user's class are no answers
    try:
        file, shape, read = pickle.load(requests)
        pixels, load = _pixels(file, shape), functools.lru_cache(pickle.loads)
        while True:
            items = pickle.load(requests)
            answers.write(pickle.dumps(_attempt(lambda: load(read), items, pixels)))
            answers.flush()
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the process that trains has ended


def _attempt(load: Callable[[], Read], items: Sequence[Any], pixels: Pixels) -> Exception | None:
    """Reads the items' pixels. Returns what went wrong as an exception that can be pickled."""
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
    """A file of this size that has no name in the file system."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("kdrun"), "r+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(size)
    return file


def _pixels(file: int, shape: Shape) -> Pixels:
    """The file as memory: CHUNK images of this shape."""
    memory = mmap.mmap(file, CHUNK * math.prod(shape))
    return np.frombuffer(memory, np.uint8).reshape(CHUNK, *shape)
