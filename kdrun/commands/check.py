"""`kdrun check [overrides]`: what a run would be, with its first step measured; nothing is kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kdrun.commands.options import width
from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.errors import KdrunError


def main(arguments: Sequence[str]) -> int:
    """Prints the plan. Raises KdrunError for whatever would stop the run."""
    typed = parse(arguments)
    if typed.flags:
        flag = typed.flags[0]
        problem = "check looks at one run" + ("; a sweep checks all of its jobs first" * (flag == "-m"))
        raise KdrunError(flag, None, problem)
    loaded = single(typed)
    for note in loaded.notes:
        print(f"note: {note}", file=sys.stderr)
    from kdrun.check.page import check

    print(check(loaded.run, width()))
    return 0
