"""`kdrun [run] [overrides]`: one run, or with `-m` a sweep."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from kdrun.config.arguments import parse
from kdrun.config.compose import show, single
from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.garbage import uncollected
from kdrun.terminal import note


def main(arguments: Sequence[str]) -> int:
    """The exit code. Raises KdrunError, and what `kdrun.commands.sweep` raises."""
    typed = parse(arguments)
    if "-sc" in typed.options:
        return completion(typed.words)
    if typed.shows:
        show(typed)
        return 0
    if typed.many:
        _refuse_name(typed.overrides)
        from kdrun.commands.sweep import sweep

        return sweep(typed)
    loaded = single(typed)
    for line in loaded.notes:
        note(line)
    run(loaded.run, [*typed.place, *loaded.overrides])
    return 0


def _refuse_name(overrides: Sequence[str]) -> None:
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "name" and value != "null":
            raise KdrunError(key, value, "names one run; for the runs of a sweep: note= or tags=")


def completion(words: Sequence[str]) -> int:
    """`-sc install=SHELL` prints the script for completion, `-sc query=SHELL` the words for COMP_LINE."""
    from kdrun.commands.completion import candidates, install

    what, _, shell = words[0].partition("=")
    if what not in ("install", "query"):
        raise KdrunError("-sc", words[0], "no such action", ["install=bash", "install=zsh", "install=fish"])
    print(
        install(shell) if what == "install" else "\n".join(candidates(os.environ.get("COMP_LINE", "kdrun ")))
    )
    return 0


def run(run: Run, overrides: list[str], quiet: bool = False) -> Path:
    """Carries out a run and returns its folder. Raises KdrunError.

    overrides: as typed, for the record. quiet: shows nothing on the screen.
    """
    from rich.console import Console

    with uncollected():
        from kdrun.stages.pipeline import execute

    return execute(run, shlex.join(["kdrun", *overrides]), Console(quiet=True) if quiet else None)
