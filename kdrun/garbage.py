"""When Python looks for cycles: objects that refer to each other and that nobody else uses."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within the block Python does not look for cycles. It would interrupt a measurement; and where many
    objects are made that have none, as in reading thousands of reports or in importing torch, the search is
    a large part of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def leave_the_rest() -> None:
    """At the end of this process Python does not look for cycles. After an import of torch this takes 0.5 s;
    the memory is returned anyway.
    """
    atexit.register(gc.freeze)
