"""`torchrun --nproc-per-node=N -m kdrun ...`: one run, whose batches several processes share."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdrun.commands.pages import OTHER_WORDS, PAGES
from kdrun.config.arguments import MANY, Typed, parse
from kdrun.config.compose import show, single
from kdrun.config.ranges import require
from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.garbage import uncollected
from kdrun.terminal import note

if TYPE_CHECKING:  # which imports torch
    from kdrun.ranks import ProcessGroup


def main(arguments: Sequence[str]) -> int:
    """The exit code. Of an error that ends the run, one rank alone gives the line."""
    try:
        typed = _allowed(arguments)
    except KdrunError:
        if os.environ["RANK"] == "0":
            raise
        return 2
    if typed.shows:
        if os.environ["RANK"] == "0":
            show(typed)
        return 0
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost rank is told in one line
    from kdrun.ranks import ProcessGroup, among

    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    group = ProcessGroup(int(os.environ.get("LOCAL_RANK", 0)), here)
    if group.leads:  # the others may wait in a call of the network, where Python hears no signal
        signal.signal(signal.SIGTERM, _told_to_end)
    try:
        with among(group):
            _run(typed, group)
    except (Exception, KeyboardInterrupt) as error:
        if group.claims():
            raise
        return _status(error)
    group.close()
    return 0


def _told_to_end(number: int, frame: object) -> None:
    """What torchrun does to all other processes as soon as one has ended."""
    problem = (
        "this run was told to end: another process has ended, or it was cancelled; the same command continues"
    )
    error = KdrunError("torchrun", None, problem)
    error.while_running = True
    raise error


def _allowed(arguments: Sequence[str]) -> Typed:
    """What was typed. Raises KdrunError for what several processes cannot do together."""
    first = next(iter(arguments), "")
    word = OTHER_WORDS.get(first, first)
    if word in PAGES and word != "run":
        problem = "runs in one process: without torchrun, which is for a single run"
        raise KdrunError(f"kdrun {word}", None, problem)
    typed = parse(arguments[1:] if word == "run" else arguments)
    if "-sc" in typed.options or {"--help", "--version"} & set(typed.options):
        raise KdrunError("torchrun", None, "is for a single run; give this command without it")
    if typed.many:
        problem = "a sweep has many runs, and torchrun is for one; without it, jobs get a process each"
        raise KdrunError(MANY, None, problem)
    return typed


def _run(typed: Typed, group: ProcessGroup) -> None:
    loaded = single(typed)
    for line in loaded.notes if group.leads else ():
        note(line)
    _refuse(loaded.run)
    with uncollected():
        from kdrun.stages.engines.engine import refuse_unusable
        from kdrun.stages.pipeline import execute_on

    refuse_unusable(loaded.run)
    execute_on(group, loaded.run, command([*typed.place, *loaded.overrides], group.count, group.here))


def _refuse(run: Run) -> None:
    """Raises KdrunError for keys that need a process of their own."""
    jobs, engine, ours = run.runtime.jobs, run.engine["name"], ["auto", "here"]
    problem = "trainings at once need processes of their own; torchrun's share one training"
    require(jobs == "auto" or int(jobs) == 1, "runtime.jobs", jobs, problem, ["auto", "1"])
    require(engine in ours, "engine", engine, "torchrun is where this run is made", ours)
    problem = "the compiler cannot hold the exchange of statistics of runtime.sync_bn=true"
    both = run.runtime.sync_bn and run.runtime.compile
    require(not both, "runtime.compile", True, problem, ["false"])
    problem = "ranges of activations follow the batches of one process; without torchrun it works"
    require(run.quantise is None, "quantise", run.quantise, problem, ["null"])


def command(overrides: Sequence[str], count: int, here: int) -> str:
    """As it can be given again; on several machines each needs torchrun's own options too."""
    nodes = [f"--nnodes={count // here}"] if count > here else []
    return shlex.join(["torchrun", *nodes, f"--nproc-per-node={here}", "-m", "kdrun", *overrides])


def _status(error: BaseException) -> int:
    """The exit code of a rank that leaves the line to another."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, KdrunError) and not error.while_running else 1
