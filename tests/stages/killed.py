"""What a process does that is killed at a chosen moment: `run`, the target of the processes of runs.py.

Bombs: `step N`: before the Nth step of any training. `write NAME N`: in the middle of the Nth write of a
file called NAME, with half of it on disk. `wrote NAME N`: right after the Nth such write. `line N`: in the
Nth line of metrics. `placed N`: right after the Nth state of a group got its name. `answers N`: in the middle
of the Nth write to a table of the teacher's answers.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kdrun.artefacts
import kdrun.cli
import kdrun.commands.run
import kdrun.models.weights
import kdrun.progress.journal
import kdrun.stages.evaluate
import kdrun.stages.groups
import kdrun.stages.pipeline
import kdrun.stages.saved
import kdrun.training.checkpoint
import kdrun.training.mutual
import kdrun.training.step
import kdrun.training.table
import tests.warm  # noqa: F401


def explode(how: signal.Signals = signal.SIGKILL) -> None:
    os.kill(os.getpid(), how)


def arm(kind: str, *more: Any) -> None:
    """Lays the bomb in this process."""
    arms = {
        "step": arm_step, "write": arm_write, "wrote": arm_wrote, "line": arm_line, "answers": arm_answers,
        "placed": arm_placed,
    }  # fmt: skip
    arms.get(kind, lambda n: arm_step(n, signal.SIGINT))(*more)


def countdown(n: int) -> Callable[[], bool]:
    """True on the nth call."""
    calls = iter(range(1, 10**9))
    return lambda: next(calls) == n


def arm_step(n: int, how: signal.Signals = signal.SIGKILL) -> None:
    due = countdown(n)

    def dying(call: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def first(self: Any, rows: Any) -> None:
            if due():
                explode(how)
            call(self, rows)

        return first

    for step in (kdrun.training.step.Step, kdrun.training.mutual.Mutual):
        step.__call__ = dying(step.__call__)  # type: ignore[method-assign, assignment]


def arm_write(name: str, n: int) -> None:
    due = countdown(n)

    def dying(write: Callable[[Path], object]) -> Callable[[Path], object]:
        def half(temporary: Path) -> None:
            write(temporary)
            content = temporary.read_bytes()
            temporary.write_bytes(content[: len(content) // 2])
            explode()

        return half if due() else write

    replace_writer(name, before=dying)


def arm_wrote(name: str, n: int) -> None:
    due = countdown(n)
    replace_writer(name, after=lambda: explode() if due() else None)


def replace_writer(
    name: str,
    before: Callable[[Any], Any] = lambda write: write,
    after: Callable[[], None] = lambda: None,
) -> None:
    real = kdrun.artefacts.write_whole

    def write_whole(path: Path, write: Callable[[Path], object]) -> None:
        if path.name != name:
            return real(path, write)
        real(path, before(write))
        after()

    for module in (kdrun.artefacts, kdrun.training.checkpoint, kdrun.models.weights):
        module.write_whole = write_whole  # type: ignore[attr-defined]


def arm_line(n: int) -> None:
    append, due = kdrun.progress.journal.append_text, countdown(n)

    def dying(path: Path, text: str) -> None:
        if path.name == "metrics.jsonl" and due():
            append(path, text[: len(text) // 2])
            explode()
        append(path, text)

    kdrun.progress.journal.append_text = dying  # type: ignore[attr-defined]


def arm_placed(n: int) -> None:
    place, due = kdrun.training.checkpoint.put_in_place, countdown(n)

    def dying(path: Path) -> None:
        place(path)
        if due():
            explode()

    kdrun.training.checkpoint.put_in_place = dying


def arm_answers(n: int) -> None:
    append, due = kdrun.training.table._append, countdown(n)

    def dying(file: int, array: Any) -> None:
        if due():
            os.write(file, array.tobytes()[: array.nbytes // 2])
            explode()
        append(file, array)

    kdrun.training.table._append = dying
    kdrun.training.table.SECONDS = 0.0


def run(args: list[str], bomb: list[Any] | None, out: str, environment: dict[str, str]) -> None:
    """Ends this process with the exit status of the command, or by the bomb. out: the file of its output."""
    os.environ.update(environment)
    kdrun.stages.groups.WORTH_STACKING = 0.0  # short trainings are to be batched too
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    file = os.open(out, os.O_RDWR | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(file, stream)
    if bomb:
        arm(*bomb)
    status = kdrun.cli.main(args)
    sys.stdout.flush()
    os._exit(status)
