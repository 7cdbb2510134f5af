"""`kdrun [run] [overrides]`: one run, or with `-m` a sweep."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from kdrun.config.arguments import parse
from kdrun.config.compose import single, start
from kdrun.config.load import Loaded
from kdrun.config.schema import Run


def main(arguments: Sequence[str]) -> int:
    """The exit code. Raises KdrunError, and what `kdrun.commands.sweep` raises."""
    typed = parse(arguments)
    if typed.shows:
        start(lambda config: None, typed)
        return 0
    if typed.many:
        from kdrun.commands.sweep import sweep

        return sweep(typed)
    perform(single(typed), before=typed.place)
    return 0


def perform(loaded: Loaded, quiet: bool = False, before: tuple[str, ...] = ()) -> Path:
    """Says what the user should know, then runs. Returns the run's folder.

    before: flags that belong to the command as it is recorded.
    """
    if not quiet:
        for note in loaded.notes:
            print(f"note: {note}", file=sys.stderr)
    return run(loaded.run, [*before, *loaded.overrides], quiet)


def run(run: Run, overrides: list[str], quiet: bool = False) -> Path:
    """Runs the pipeline and returns the run's folder; quiet: nothing on the screen. Raises KdrunError.

    overrides: as typed, for the record.
    """
    from rich.console import Console

    from kdrun.stages.pipeline import execute

    return execute(run, shlex.join(["kdrun", *overrides]), Console(quiet=True) if quiet else None)
