"""A training of kdrun's own, stopped after each epoch until the next is asked for.

What is timed is the loop that runs, in all its parts; only its screen is another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from kdrun.progress.screen import Screen


class Paused(Screen):
    """Runs `work(screen)` in a thread that waits at the end of each epoch of its training."""

    def __init__(self, work: Callable[[Screen], object]) -> None:
        self.work, self.row = work, dict[str, Any]()
        self.error: BaseException | None = None
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.left = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def next(self) -> dict[str, Any]:
        """Lets it run to the end of the next epoch, and gives that epoch's row of metrics.jsonl."""
        self.row = {}
        self.go.release()
        self.done.acquire()
        if self.error is not None:
            raise self.error
        return self.row

    def leave(self) -> None:
        """Breaks the training off where it waits."""
        self.left = True
        self.go.release()
        self.thread.join()

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.row = dict(row)
        self.done.release()
        self._wait()

    def _wait(self) -> None:
        self.go.acquire()
        if self.left:
            raise _Left

    def _run(self) -> None:
        try:
            self._wait()
            self.work(self)
        except _Left:
            return
        except BaseException as error:
            self.error = error
        self.done.release()


class _Left(Exception):
    """The training is not wanted any more."""
