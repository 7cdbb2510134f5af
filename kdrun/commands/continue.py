"""`kdrun continue RUN`: gives the command of a run or a sweep again, which continues it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from kdrun.commands.pages import PAGES
from kdrun.config.callers import CALLERS, is_callers
from kdrun.config.options import Options
from kdrun.config.overrides import key_of
from kdrun.errors import KdrunError
from kdrun.records import PLAN, read_planned
from kdrun.report.naming import run_named

CONTINUED = ("run", "table", "tune")
"""Commands that a recorded command may be; others make no run."""


def main(arguments: Sequence[str]) -> int:
    """The exit code of the command. Raises KdrunError if it is not known, and what the command raises."""
    words, _ = Options(values={}).parse(arguments)
    typed = [word for word in words if is_callers(word)]
    runs = [word for word in words if word not in typed]
    others = [word for word in runs if "=" in word and not Path(word).exists()]
    _refuse_without_value(typed)
    runs = [word for word in runs if word not in others]
    if len(runs) != 1:
        problem = "which run? Its folder, the first digits of its id, or its name"
        raise KdrunError("kdrun continue", None, problem)
    called = f"kdrun continue {runs[0]}"
    command = command_of(run_named(runs[0]))
    if command[0] == "torchrun":
        problem = f"several processes made it, which this command cannot start: {shlex.join(command)}"
        raise KdrunError(called, None, problem)
    name = command[1] if command[1:2] and command[1] in PAGES else ""
    if name and name not in CONTINUED:
        raise KdrunError(called, None, f"its folder names a command that makes no run: kdrun {name}")
    command = with_callers(command, typed, called)
    _refuse_others(command, others)
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    code: int = import_module(f"kdrun.commands.{name or 'run'}").main(command[2 if name else 1 :])
    return code


def _refuse_without_value(typed: Sequence[str]) -> None:
    """Raises KdrunError for a key of the caller without a value."""
    for word in typed:
        if "=" not in word:
            example = CALLERS.get(word.lstrip("+~"), f"{word}=VALUE")
            problem = f"{word} has no value; for example {shlex.quote(example)}"
            raise KdrunError("kdrun continue", None, problem)


def _refuse_others(command: Sequence[str], others: Sequence[str]) -> None:
    """Raises KdrunError for other keys, with the command that has them, but not the run's name."""
    if others:
        replaced = ("name", *map(key_of, others))
        own = [word for word in command if key_of(word) not in replaced]
        problem = "gives the command of the run again, without other keys; with them"
        raise KdrunError("kdrun continue", None, f"{problem}: {shlex.join([*own, *others])}")


def with_callers(command: Sequence[str], typed: Sequence[str], called: str) -> list[str]:
    """A recorded command with what only the caller decides as typed now. called: this command.

    Raises KdrunError if the record sets a key of the caller that is not typed: a folder can be anyone's.
    """
    own = {key_of(word): word for word in command if is_callers(word)}
    left = [word for key, word in own.items() if key not in map(key_of, typed)]
    if left:
        problem = (
            "its command says which code runs, and that is not taken from a folder. If you trust it, type"
        )
        raise KdrunError(called, None, f"{problem} {called} {shlex.join([*left, *typed])}")
    return [*(word for word in command if not is_callers(word)), *typed]


def command_of(folder: Path) -> list[str]:
    """The words of the command in a run's plan.json, or of the last call of a sweep or table."""
    from kdrun.report.sweep_files import commands, words_of

    planned = read_planned(folder / PLAN)
    calls = commands(folder) if planned is None else [planned["command"]]
    words = words_of(calls[-1]) if calls else []
    if not words:
        raise KdrunError(str(folder), None, f"does not name the command that made it (no {PLAN})")
    return words
