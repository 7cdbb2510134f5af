"""When Python looks for cycles: objects that refer to each other and that nobody else uses."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within the block Python does not look for cycles: it would interrupt a measurement, and is a large part
    of the time where many objects without any are made, as in reading thousands of reports.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def leave_the_rest() -> None:
    """At the end of this process Python looks for no cycles: after an import of torch this takes 0.5 s."""
    atexit.register(gc.freeze)
