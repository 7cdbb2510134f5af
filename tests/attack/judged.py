"""What one command did, and whether that is how a command may end."""

from __future__ import annotations

import contextlib
import io
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kdrun.cli import main

MOST_LINES, MOST_LETTERS = 8, 500
SECONDS, WAIT = 60, 600
"""Seconds of processor time, and of waiting, that no attack may cost."""


@dataclass(frozen=True)
class Ended:
    """status: the exit status; None for an exception, whose traceback is in `err`."""

    words: tuple[str, ...]
    status: int | None
    out: str
    err: str

    def faults(self) -> list[str]:
        """What is wrong with the end. A failure is short, and shows no escape sequence."""
        if self.status is None:
            return [f"traceback: {self.err.strip().splitlines()[-1]}"]
        lines = self.err.splitlines()
        wrong = []
        if self.status not in (0, 1, 2):
            wrong.append(f"exit status {self.status}")
        if self.status and not lines:
            wrong.append("failed without a word")
        if len(lines) > MOST_LINES or any(len(line) > MOST_LETTERS for line in lines):
            wrong.append(f"{len(lines)} lines of up to {max(map(len, lines))} letters")
        if "\x1b" in self.out + self.err:
            wrong.append("an escape sequence reaches the terminal")
        return wrong


def command(words: Sequence[str]) -> Ended:
    """Runs a command in this process."""
    return ended(words, lambda: main(list(words)))


def ended(words: Sequence[str], act: Callable[[], int]) -> Ended:
    """Runs `act`, which returns an exit status, in this process."""
    out, err = io.StringIO(), io.StringIO()
    status: int | None = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _limited():
            status = act()
    except Exception:
        err.write(traceback.format_exc())
    return Ended(tuple(words), status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raises TimeoutError in the block after SECONDS or WAIT."""

    def late(*_: object) -> None:
        raise TimeoutError(f"no answer within {SECONDS} s")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, WAIT)}
    before = {number: signal.signal(number, late) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
