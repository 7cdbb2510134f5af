"""`kdrun continue RUN`: gives the command of a run or a sweep again, which continues it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from kdrun.commands.pages import PAGES
from kdrun.config.options import Options
from kdrun.errors import KdrunError
from kdrun.records import PLAN, read_planned
from kdrun.report.naming import run_named


def main(arguments: Sequence[str]) -> int:
    """The exit code of the command. Raises KdrunError if it is not known, and what the command raises."""
    words, _ = Options(values={}).parse(arguments)
    if len(words) != 1:
        problem = "which run? Its folder, the first digits of its id, or its name"
        raise KdrunError("kdrun continue", None, problem)
    command = command_of(run_named(words[0]))
    if command[:1] == ["torchrun"]:
        problem = f"several processes made it, which this command cannot start: {shlex.join(command)}"
        raise KdrunError(f"kdrun continue {words[0]}", None, problem)
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    _, *rest = command
    name = rest.pop(0) if rest and rest[0] in PAGES else "run"
    code: int = import_module(f"kdrun.commands.{name}").main(rest)
    return code


def command_of(folder: Path) -> list[str]:
    """The words of the command in a run's plan.json, or of the last call of a sweep or table."""
    planned = read_planned(folder / PLAN)
    if planned is not None:
        try:
            first, *rest = shlex.split(planned["command"])
        except ValueError:
            raise KdrunError(str(folder / PLAN), None, "has no command that can be read") from None
        return [first, *rest]
    from kdrun.report.sweep_files import commands

    calls = commands(folder)
    if not calls:
        raise KdrunError(str(folder), None, f"does not name the command that made it (no {PLAN})")
    return shlex.split(calls[-1])
