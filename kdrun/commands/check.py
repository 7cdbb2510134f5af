"""`kdrun check [overrides]`: the dry run: the plan of a run, and its measured first step."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kdrun.commands.terminal import width
from kdrun.config.arguments import FOLDER, MANY, parse
from kdrun.config.compose import single
from kdrun.errors import KdrunError


def main(arguments: Sequence[str]) -> int:
    """Prints the dry run. Raises KdrunError for anything that would stop the run."""
    typed = parse(arguments)
    flags = [name for name in typed.options if name != FOLDER]
    if flags or typed.many:
        problem = "check looks at one run" + ("; a sweep checks all of its jobs first" * typed.many)
        raise KdrunError(flags[0] if flags else MANY, None, problem)
    loaded = single(typed)
    for note in loaded.notes:
        print(f"note: {note}", file=sys.stderr)
    from kdrun.check.page import check

    print(check(loaded.run, width()))
    return 0
