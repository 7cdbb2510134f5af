"""`kdrun -m key=a,b ...`: runs all combinations, each once, and shows the table of results."""

from __future__ import annotations

import shlex
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from kdrun.artefacts import held, locked, write_text
from kdrun.config.arguments import Typed
from kdrun.config.load import Loaded
from kdrun.config.sweep import Job, Refused, composed_jobs
from kdrun.errors import KdrunError
from kdrun.figures import plural
from kdrun.garbage import uncollected
from kdrun.report.read import NAME
from kdrun.report.sweep_folder import collected, error_file, new_folder, write_record
from kdrun.terminal import TABLE, in_lines, note, padded, widest, width

if TYPE_CHECKING:  # these import torch
    from kdrun.plan.ground import Grounds
    from kdrun.plan.plan import Plan
    from kdrun.stages.make import Made

Ended = dict[str, Any]
"""How a job ended: state (finished, failed), run (its folder or None), error, evaluated (whether the run has
a report), earlier (whether it was finished before this call), seconds, ended.
"""

LEGEND = "student: top-1 on test in %; gain: points over the control (95 % interval)"
"""The figures in the line of a job."""


def sweep(typed: Typed) -> int:
    """Runs a sweep; 1 if a job failed. Raises KdrunError or Refused before any job has run.

    The table of all jobs so far is written and shown even after an error.
    """
    jobs, loaded = composed_jobs(typed)
    runs, plans = planned(loaded)
    for line, number in Counter(line for run in runs for line in run.notes).items():
        note(f"{line}   ({number} of {len(runs)} jobs)")
    command = shlex.join(["kdrun", "-m", *typed.place, *typed.words])
    folder = new_folder(Path(runs[0].run.outputs_dir), jobs, command)
    ended: list[Ended] = []
    with held([folder]):
        try:
            commands = [typed.command(run.overrides) for run in runs]
            make_and_run(jobs, plans, commands, folder, ended, f"\n{LEGEND}\n")
        finally:
            summarise(jobs, ended, folder)
    return int(any(each["state"] == "failed" for each in ended))


def planned(
    loaded: Sequence[Loaded | KdrunError], grounds: Grounds | None = None
) -> tuple[list[Loaded], list[Plan]]:
    """Plans all jobs; each data set is read once. Raises Refused if one of the jobs cannot run.

    grounds: of jobs that were planned before.
    """
    with uncollected():
        from kdrun.plan.ground import Grounds
        from kdrun.plan.plan import make_plan
        from kdrun.stages.engines.engine import refuse_unusable

    wrong, grounds = Counter[str](), Grounds() if grounds is None else grounds
    for run in [each.run for each in loaded if isinstance(each, Loaded)][:1]:  # all have one engine
        refuse_unusable(run)
    runs, plans = [], []
    for each in loaded:
        try:
            if isinstance(each, KdrunError):
                raise each
            plans.append(make_plan(each.run, grounds))
            runs.append(each)
        except KdrunError as error:
            wrong[str(error)] += 1
    if wrong:
        raise Refused([f"{line}   ({count} of {len(loaded)} jobs)" for line, count in wrong.items()])
    return runs, plans


def finished_earlier(plans: Sequence[Plan]) -> list[bool | None]:
    """Whether each was finished before this call; None if it cannot continue, which its job then reports."""
    from kdrun.stages.evaluate import is_current, is_drawn
    from kdrun.stages.ready import refuse_unstartable

    states: list[bool | None] = []
    for plan in plans:
        try:
            refuse_unstartable(plan)
            drawn = is_drawn(plan, job=True)
            states.append("evaluate" in plan.run.stages and is_current(plan, drawn))
        except KdrunError:
            states.append(None)
    return states


def make_and_run(
    jobs: Sequence[Job],
    plans: Sequence[Plan],
    commands: Sequence[str],
    folder: Path,
    ended: list[Ended],
    legend: str = "",
) -> None:
    """Makes the trainings of all jobs, then finishes each job as an ordinary run, as `run_jobs` says."""
    earlier = finished_earlier(plans)
    made = ahead(plans, earlier)
    print(legend, end="", flush=True)

    def work(position: int) -> Path:
        return carried_out(plans[position], commands[position], made)

    run_jobs(jobs, work, [state is True for state in earlier], folder, ended)


def ahead(plans: Sequence[Plan], earlier: Sequence[bool | None]) -> Made:
    """Makes the trainings of the jobs that are not finished, several at once."""
    from kdrun.plan.notes import unfinished
    from kdrun.progress.screen import screen
    from kdrun.progress.watchers import Observers
    from kdrun.stages.make import Made, make
    from kdrun.stages.ready import changed, healed, refuse_full_disk
    from kdrun.stages.teacher_notes import model_notes

    plans = [plan for plan, state in zip(plans, earlier, strict=True) if state is False]
    if not plans:
        return Made()
    refuse_full_disk(plans)
    shown = screen()
    trainings = [training for plan in plans for training in plan.every]
    for line in (*changed(trainings), *healed(plans)):
        shown.say(line)
    for line in dict.fromkeys(line for plan in plans for line in (*unfinished(plan), *model_notes(plan))):
        shown.say(f"note   {line}")
    return make(plans, Observers(shown))


def carried_out(plan: Plan, command: str, made: Made) -> Path:
    """Carries out the rest of a job without a screen. Returns the run's folder."""
    from rich.console import Console

    from kdrun.progress.screen import screen
    from kdrun.stages.pipeline import carry_out

    return carry_out(plan, command, screen(Console(quiet=True)), made)


def run_jobs(
    jobs: Sequence[Job],
    work: Callable[[int], Path],
    earlier: Sequence[bool],
    folder: Path,
    ended: list[Ended],
) -> None:
    """One job after the other: each has a record in the sweep's folder, an entry in `ended`, and a line.

    work: does the job at a position and returns its run's folder. Its errors fail that job alone.
    """
    total = len(jobs)
    heads = [f" {n:>{len(str(total))}} of {total}  {job}".rstrip() for n, job in enumerate(jobs, 1)]
    wide = widest(heads)
    for position, job in enumerate(jobs):
        how = perform(lambda position=position: work(position), error_file(folder, job))  # type: ignore[misc]
        how["earlier"] = earlier[position] and how["state"] == "finished"
        write_record(folder, job, how)
        ended.append(how)
        output = sys.stderr if how["state"] == "failed" else sys.stdout
        print(line(padded(heads[position], wide), how, width()), file=output, flush=True)


def perform(work: Callable[[], Path], errors: Path) -> Ended:
    """Does a job, and returns how it ended. A failure writes its traceback into the file `errors`."""
    began = time.time()
    errors.unlink(missing_ok=True)
    ended: Ended = {"state": "finished", "run": None, "error": None, "evaluated": False}
    try:
        run = work()
        ended |= {"run": str(run), "evaluated": (run / NAME).is_file()}
    except Exception as error:
        known = isinstance(error, (KdrunError, OSError))
        text = str(error) if known else f"{type(error).__name__}: {error} (a bug of kdrun: see {errors})"
        ended |= {"state": "failed", "error": " ".join(text.split())}
        write_text(errors, "".join(traceback.format_exception(error)))
    return ended | {"seconds": round(time.time() - began, 1), "ended": time.time()}


def line(head: str, ended: Mapping[str, Any], columns: int) -> str:
    """` 4 of 9  method=dkd seed=0  student 90.1  gain +1.2 (+0.1 to +2.3)  7f3a1c`; in several lines if that
    is wider than the screen.
    """
    from kdrun.report.sweep_table import outcome

    if ended["state"] == "failed":
        return f"{head.rstrip()}  failed: {ended['error']}"
    figures = [*outcome(Path(ended["run"])), *(["finished earlier"] if ended["earlier"] else [])]
    for start in (head, head.rstrip()):  # aligned with the other jobs, if that fits
        one = "  ".join([start, *figures])
        if cell_len(one) <= columns:
            return one
    return "\n".join([head.rstrip(), *(f"   {each}" for each in in_lines(figures, columns - 3))])


def summarise(jobs: Sequence[Job], ended: Sequence[Ended], folder: Path) -> None:
    """Counts how the jobs of this call ended, and writes and shows the table of the sweep so far."""
    kinds = Counter("earlier" if each["earlier"] else each["state"] for each in ended)
    parts = [f"{kinds['earlier']} finished earlier", f"{kinds['finished']} run", f"{kinds['failed']} failed"]
    if len(ended) < len(jobs):
        parts.append(f"{len(jobs) - len(ended)} not run")
    counts = f"{plural(len(jobs), 'job')}: {', '.join(parts)}"
    apart = "   " if len(f"{counts}   {folder}") <= width() else "\n"
    print(f"\n{counts}{apart}{folder}", flush=True)
    results(folder)


def results(folder: Path) -> None:
    """Shows and writes the table of all jobs of the folder, with those of other calls; then the files."""
    from kdrun.report.sweep_files import write
    from kdrun.report.sweep_table import text

    with locked(folder):  # another call may end at the same time
        jobs = collected(folder)
        if jobs:
            print(text(jobs, width(TABLE)).rstrip("\n"))
            print("  ".join(write(folder, jobs)), flush=True)
