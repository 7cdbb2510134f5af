"""`kdrun -m key=a,b ...`: all combinations, each once, and the table of what they gave."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from kdrun.artefacts import read_json
from kdrun.commands.options import width
from kdrun.commands.run import perform
from kdrun.config.arguments import Typed
from kdrun.config.load import Loaded
from kdrun.config.sweep import Call, run_jobs
from kdrun.errors import KdrunError


def sweep(typed: Typed) -> int:
    """Runs a sweep; 1 if a job failed. Raises KdrunError or Refused before any job has run.

    However it ends, the table of all jobs of its folder so far is written and shown.
    """
    call = Call(typed, checker(), ahead)
    try:
        run_jobs(call, partial(perform, before=typed.place))
    finally:
        if call.folder is not None:
            summarise(call)
    return int(any(record["state"] == "failed" for record in call.records()))


def checker() -> Callable[[Loaded], None]:
    """Checks what needs data and models, once for all jobs that differ in numbers only."""
    seen: set[str] = set()

    def check(loaded: Loaded) -> None:
        key = _shape(loaded)
        if key in seen:
            return
        from kdrun.plan.plan import make_plan

        make_plan(loaded.run)
        seen.add(key)

    return check


def ahead(jobs: Sequence[Loaded]) -> None:
    """Trains, several at once, what two jobs or more have left to train."""
    if len(jobs) > 1:
        from rich.console import Console

        from kdrun.plan.plan import make_plan
        from kdrun.progress.screen import screen
        from kdrun.progress.watchers import Observers
        from kdrun.stages.changed import changed
        from kdrun.stages.make import make

        plans, shown = [make_plan(job.run) for job in jobs], screen(Console())
        for line in changed(training for plan in plans for training in plan.trainings):
            shown.say(line)
        make(plans, Observers(shown))


def _shape(loaded: Loaded) -> str:
    """A run without the numbers that no check beyond their range asks for."""
    plain: dict[str, Any] = asdict(loaded.run)
    for key in ("seed", "temperature", "alpha"):
        del plain[key]
    for term in plain["loss"].values():
        term.pop("weight", None)
        term.pop("temperature", None)
    return json.dumps(plain, sort_keys=True, default=str)


def summarise(call: Call) -> None:
    """Says how the jobs of this call ended, and writes and shows the table of the sweep so far."""
    assert call.folder is not None
    records = call.records()
    kinds = Counter("earlier" if r["earlier"] else r["state"] for r in records)
    parts = [f"{kinds['earlier']} finished earlier", f"{kinds['finished']} run", f"{kinds['failed']} failed"]
    if len(records) < len(call.jobs):
        parts.append(f"{len(call.jobs) - len(records)} not run")
    noun = "job" if len(call.jobs) == 1 else "jobs"
    print(f"\n{len(call.jobs)} {noun}: {', '.join(parts)}   {call.folder}", flush=True)
    results(call.folder)


def results(folder: Path) -> None:
    """The table of all jobs of the folder, of earlier calls too; what is written is named below it."""
    from kdrun.report.sweep_files import write
    from kdrun.report.sweep_table import text

    jobs = collected(folder)
    if jobs:
        print(text(jobs, width()).rstrip("\n"))
        print("  ".join(write(folder, jobs)), flush=True)


def collected(folder: Path) -> list[dict[str, Any]]:
    """All jobs that a sweep's folder knows, in the order in which they ended."""
    paths = (folder / "jobs").glob("*.json")
    return [_job(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns)]


def _job(path: Path) -> dict[str, Any]:
    """A job's record as the tables want it; a run whose report is gone counts as failed."""
    from kdrun.report.read import read

    record = read_json(path)
    job = {"overrides": record["swept"], "report": None, "error": record["error"], "folder": record["run"]}
    if record["run"]:
        try:
            job["report"] = read(Path(record["run"]))
        except KdrunError as error:
            job["error"] = str(error)
    return job
