"""Processes that read images: what they give, what goes wrong in them, and that none stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from kdrun.data.workers import CHUNK, Workers
from kdrun.errors import KdrunError

SHAPE = (1, 2, 2)
FILL = partial(np.full, SHAPE)
"""An image whose pixels are the item: NumPy's own, so that a process imports nothing of the tests."""


@pytest.fixture(scope="module")
def one() -> Iterator[Workers]:
    workers = Workers(FILL, SHAPE, 1)
    yield workers
    workers.close()


def read(workers: Workers, items: list[Any]) -> list[int]:
    found = np.zeros((len(items), *SHAPE), np.uint8)
    for done in workers.fill(items, found.__setitem__):
        done()
    assert (found == found[:, :1, :1, :1]).all()
    return [int(image[0, 0, 0]) for image in found]


def test_a_process_reads_what_this_one_does(one: Workers) -> None:
    items = list(range(3 * CHUNK + 1))
    none = Workers(FILL, SHAPE, 0)
    assert read(one, items) == read(none, items) == items
    assert read(one, []) == []
    none.close()


def test_what_goes_wrong_is_told_and_the_process_goes_on(one: Workers) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in a process that reads images:.*int\(\).*'no number'"):
        read(one, [1, "no number"])
    assert read(one, [7]) == [7]


def test_a_process_that_ends_is_named_with_what_it_read() -> None:
    workers = Workers(os._exit, SHAPE, 1)  # type: ignore[arg-type]
    try:
        with pytest.raises(KdrunError, match=r"runtime\.workers: .*ended \(status 5\) at one of these: 5, 6"):
            read(workers, [5, 6])
    finally:
        workers.close()


PARENT = """
import os, sys
from functools import partial
import numpy as np
from kdrun.data.workers import Workers
workers = Workers(partial(np.full, (1, 2, 2)), (1, 2, 2), 1)
wait = workers.fill([3], lambda position, pixels: print("read", int(pixels[0, 0, 0]), flush=True))
[done() for done in wait]
import kdrun.data.decode
assert "torch" not in sys.modules
sys.stdin.read()
"""


def test_nobody_outlives_a_killed_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"read 3\n"
        parent.send_signal(signal.SIGKILL)
        # The worker has this standard error too: it ends when the last of both has ended.
        assert parent.communicate(timeout=20) == (b"", b"")
