"""The trainings that several runs need, done before the first of these runs, several at once."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from rich.console import Console

from kdrun.config.schema import Run
from kdrun.machine import cores
from kdrun.plan.plan import Assembly, assemble
from kdrun.plan.training import Training
from kdrun.progress.screen import Screen, screen
from kdrun.stages.called import Called
from kdrun.stages.groups import Group, groups, seconds
from kdrun.stages.make import make, obtain
from kdrun.stages.pipeline import loaded_teacher
from kdrun.stages.saved import Trained, finished
from kdrun.stages.trainee import Member

WORTH_PROCESSES = 60.0
"""Estimated seconds of training below which starting processes costs more than it saves."""

LINES = 10
"""So many say how far it is."""


def ahead(runs: Sequence[Run], shown: Screen) -> None:
    """Trains what is not there of the models that the runs need: teachers first, then who learns from them.

    Raises nothing where a training fails: its run comes to the same point and says so.
    """
    assemblies = [assemble(run) for run in runs]
    quiet = screen(Console(quiet=True))
    for members in _rounds(assemblies, quiet):
        found = groups(members)
        jobs = _jobs(runs[0], members)
        if jobs == 1:
            for group in found:
                _in_this_process(group, shown)
        else:
            _in_processes(_spread(found, jobs), jobs, shown)


def _rounds(assemblies: Sequence[Assembly], quiet: Screen) -> Iterator[list[Member]]:
    """What is to be trained, each once; what a round needs was trained in the rounds before."""
    teachers = [
        Member(a.chain[0].teacher, a.chain[0], None)
        for a in assemblies
        if "teacher" in a.run.stages and not (a.chain[0].teacher.loaded or a.mutual)
    ]
    yield _missing(teachers)
    for depth in range(max(len(a.chain) for a in assemblies)):
        members = []
        for assembly in assemblies:
            if "student" not in assembly.run.stages:
                continue
            if depth < len(assembly.chain):
                pair = assembly.chain[depth]
                members.append(Member(pair.student, pair, _teacher(pair, quiet)))
            if depth == 0 and assembly.control is not None:
                members.append(Member(assembly.control, assembly, None))
        yield [m for m in _missing(members) if m.teacher or not _is_taught(m)]


def _is_taught(member: Member) -> bool:
    assembly = member.assembly
    return member.training.role == "student" and assembly.uses_teacher and not assembly.mutual


def _missing(members: Sequence[Member]) -> list[Member]:
    unique = {member.training.folder: member for member in members}
    return [m for m in unique.values() if finished(m.training, m.assembly.run.fresh) is None]


def _teacher(pair: Assembly, quiet: Screen) -> Trained | None:
    """Who teaches in a pair, None where that failed or is not needed."""
    if not pair.uses_teacher:
        return None
    if pair.teacher.loaded:
        return loaded_teacher(pair)
    there = finished(pair.teacher, fresh=False)
    return obtain(pair.teacher, pair, None, quiet, allowed=False) if there else None


def _jobs(run: Run, members: Sequence[Member]) -> int:
    """How many processes train at once."""
    if run.runtime.jobs != "auto":
        return int(run.runtime.jobs)
    if not members or members[0].assembly.place.device.type != "cpu":
        return 1
    return cores() if seconds(list(members)) > WORTH_PROCESSES else 1


def _spread(found: list[Group], jobs: int) -> list[Group]:
    """The same, the largest first, those that would keep one process busy while others wait cut in halves."""
    share = seconds([member for group in found for member in group]) / jobs
    large = [group for group in found if len(group) > 1 and seconds(group) > share]
    while large:
        group = large.pop()
        halves = [group[: len(group) // 2], group[len(group) // 2 :]]
        found = [other for other in found if other is not group] + halves
        large += [half for half in halves if len(half) > 1 and seconds(half) > share]
    return sorted(found, key=seconds, reverse=True)


def _in_this_process(group: Group, shown: Screen) -> None:
    role = group[0].training.role
    named = shown if len(group) == 1 else Called(shown, f"{len(group)} {role}s")
    with suppress(Exception):  # the run that needs it meets it again, and says what is wrong
        make(group, named)


def _in_processes(found: Sequence[Group], jobs: int, shown: Screen) -> None:
    """Each group in a process, so many at once, each with its share of the cores."""
    context, threads = multiprocessing.get_context("spawn"), max(1, cores() // jobs)
    left, running = list(found), list[tuple[SpawnProcess, int]]()
    done, total = 0, sum(map(len, found))
    try:
        while left or running:
            while left and len(running) < jobs:
                group = left.pop(0)
                wanted = [(_threaded(member, threads), member.training.folder) for member in group]
                process = context.Process(target=_train, args=(wanted, sys.path), daemon=True)
                process.start()
                running.append((process, len(group)))
            wait([process.sentinel for process, _ in running])
            running, before = [pair for pair in running if pair[0].is_alive()], done
            done = total - sum(map(len, left)) - sum(count for _, count in running)
            if LINES * done // total > LINES * before // total:
                shown.say(f"trained ahead: {done} of {total}")
    finally:
        for process, _ in running:
            process.terminate()


def _threaded(member: Member, threads: int) -> Run:
    run = member.assembly.run
    return run if run.threads != "auto" else replace(run, threads=threads)


def _train(wanted: Sequence[tuple[Run, Path]], path: list[str]) -> None:
    """In a process of its own: trains one group, shows nothing, and ends with its parent."""
    sys.path[:] = path
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quiet = screen(Console(quiet=True))
    with suppress(Exception):
        make([_member(assemble(run), folder, quiet) for run, folder in wanted], quiet)


def _member(assembly: Assembly, folder: Path, quiet: Screen) -> Member:
    for pair in assembly.chain:
        if pair.student.folder == folder:
            return Member(pair.student, pair, _teacher(pair, quiet))
    others: list[Training | None] = [assembly.control, assembly.chain[0].teacher]
    training = next(t for t in others if t is not None and t.folder == folder)
    return Member(training, assembly.chain[0], None)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
