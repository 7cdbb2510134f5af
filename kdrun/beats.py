"""Who works on a folder from another machine, where locks of files may not reach: a worker on a cluster
touches a file in it again and again.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdrun.artefacts import BEAT, write_text
from kdrun.errors import KdrunError
from kdrun.records import read_own

EVERY = 15.0
"""Seconds between two touches."""

WORKER = "KDRUN_WORKER"
"""Environment variable: what a worker on a cluster is called, `SLURM job 12`."""

SILENT = 60.0
"""After so many seconds without one the worker is gone. The clocks of the machines must agree better."""


@contextmanager
def beating(folder: Path) -> Iterator[None]:
    """Within the block, a worker on a cluster says in the folder that it works on it; others do nothing."""
    if WORKER not in os.environ:
        yield
        return
    file, host, over = folder / BEAT, socket.gethostname(), threading.Event()
    write_text(file, f"{host}\n{os.environ[WORKER]} on {host}")

    def beat() -> None:
        while not over.wait(EVERY):
            with suppress(OSError):
                os.utime(file)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        file.unlink(missing_ok=True)


def elsewhere(folder: Path) -> str:
    """Who works on the folder on another machine, `SLURM job 12 on node7`; empty if nobody does."""
    file = folder / BEAT
    with suppress(OSError, KdrunError):
        if time.time() - file.stat().st_mtime < SILENT:
            host, _, who = (read_own(file) or "").partition("\n")
            return who if host != socket.gethostname() else ""
    return ""


def wait_for_others(folder: Path, waiting: Callable[[str], None]) -> None:
    """Waits until nobody works on the folder on another machine. waiting: called once, with who does."""
    if who := elsewhere(folder):
        waiting(who)
    while elsewhere(folder):
        time.sleep(1.0)
