"""`kdrun check [overrides]`: the plan of a run and its first step, measured; nothing is kept. With `-m
teacher=a,b`: teachers beside each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kdrun.commands.sweep import planned
from kdrun.config.arguments import MANY, MOST, Typed, parse
from kdrun.config.compose import single
from kdrun.config.options import FOLDER
from kdrun.config.sweep import Job, composed_jobs, swept_keys
from kdrun.errors import KdrunError
from kdrun.garbage import uncollected
from kdrun.terminal import TABLE, note, width

OF_TEACHERS = re.compile(r"(recipe\.)?teacher(\..+)?")
"""Keys in which candidates may differ."""


def main(arguments: Sequence[str]) -> int:
    """Prints the plan, or the candidates. Raises KdrunError for whatever would stop the run."""
    typed = parse(arguments)
    flags = [name for name in typed.options if name not in (FOLDER, MANY, MOST)]
    if flags:
        raise KdrunError(flags[0], None, "check looks at one run, or with -m at its teachers")
    if typed.many:
        print(ranked(typed))
        return 0
    loaded = single(typed)
    for line in loaded.notes:
        note(line)
    with uncollected():
        from kdrun.check.page import check

    for line in check(loaded.run, width()):
        print(line, flush=True)
    return 0


def ranked(typed: Typed) -> str:
    """The teachers of a sweep over teachers, ranked. Raises KdrunError, or Refused if a job cannot run."""
    for key, values in swept_keys(typed).items():
        if not OF_TEACHERS.fullmatch(key):
            problem = "check -m ranks teachers, so only they may have several values; a sweep checks its jobs"
            raise KdrunError(key, values, problem)
    jobs, loaded = composed_jobs(typed)
    with uncollected():
        from kdrun.check.ranking import ranking

    _, plans = planned(loaded)
    commands = {str(job): _training_command(typed, job) for job in jobs}
    return ranking({str(job): plan for job, plan in zip(jobs, plans, strict=True)}, commands, width(TABLE))


def _training_command(typed: Typed, job: Job) -> str:
    """What trains the teacher of a job, and nothing else."""
    own = [word for word in job.overrides if not word.startswith("stages=")]
    return typed.command([*own, "stages=[teacher]"])
