"""A sweep's folder: a record for each job and for each call. Paths in it are relative to the outputs folder,
which can therefore be moved.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdrun.artefacts import set_aside, sweep_parts, write_json
from kdrun.config.sweep import Job, folder_name
from kdrun.errors import KdrunError
from kdrun.report import answers
from kdrun.report.read import content_of, read, run_folder

EARLIER = re.compile(r"[0-9a-f]{6}")
"""Names that earlier versions gave to jobs; two of thousands could share one."""


def new_folder(outputs: Path, jobs: Sequence[Job], command: str) -> Path:
    """The folder of these jobs' sweep, with a record of this call. It may hold jobs of earlier calls."""
    folder = outputs / "sweeps" / folder_name(jobs[0])
    record_call(folder, jobs, command)
    write_json(folder / "sweep.json", {"swept": sorted(jobs[0].swept), "fixed": jobs[0].fixed})
    return folder


def record_call(folder: Path, jobs: Sequence[Job], command: str) -> None:
    """Makes the folder if need be, and writes what this call is to do."""
    for name in ("jobs", "calls", ""):
        (folder / name).mkdir(parents=True, exist_ok=True)
        sweep_parts(folder / name)
        set_aside(folder / name)
    listed = [{"name": job.name, "swept": job.swept} for job in jobs]
    call = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json"
    write_json(folder / "calls" / call, {"command": command, "jobs": listed})


def error_file(folder: Path, job: Job) -> Path:
    """The file with the traceback of a failed job."""
    return folder / "jobs" / f"{job.name}.error.txt"


def write_record(folder: Path, job: Job, ended: Mapping[str, Any]) -> None:
    """Records how a job ended: `{state, run, error, evaluated, seconds, ended}`. run: its folder, or None."""
    run = ended["run"] and os.path.relpath(ended["run"], _outputs(folder))
    known = {"name": job.name, "overrides": job.overrides, "swept": job.swept}
    write_json(folder / "jobs" / f"{job.name}.json", {**known, **ended, "run": run})


def collected(folder: Path) -> list[dict[str, Any]]:
    """The evaluated and the failed jobs of a sweep's folder, each once, in the order in which they ended.

    A record that cannot be read is named on stderr. A run without its report counts as failed.
    """
    by_name: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / "jobs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
        try:
            name, job = _job(folder, path)
        except KdrunError as error:
            print(f"{error}; this job is not in the table", file=sys.stderr, flush=True)
            continue
        by_name.pop(name, None)  # an earlier version of kdrun kept `2` and `2.0` apart
        if job is not None:
            by_name[name] = job
    return list(by_name.values())


def _job(folder: Path, path: Path) -> tuple[str, dict[str, Any] | None]:
    """The name of a job and its row; None for a run that was trained and not evaluated."""
    record = content_of(path)
    try:
        swept, run = dict(record["swept"]), record["run"]
        name = record.get("name") or ""
        if not name or EARLIER.fullmatch(name):
            name = Job(tuple(record["overrides"]), swept).name
        job = {"name": name, "overrides": swept, "report": None, "error": record["error"], "folder": None}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KdrunError(str(path), None, "is no record of a job") from error
    if record["error"] is None and not record.get("evaluated", True):
        return name, None
    if run:
        place = run_folder(_outputs(folder), run)
        job["folder"] = os.path.relpath(place, _outputs(folder))
        try:
            job["report"] = read(place)
            job["right"] = answers.right(answers.read(place), "student", "validation")
        except KdrunError as error:
            job["error"] = str(error)
    return name, job


def _outputs(folder: Path) -> Path:
    return folder.parent.parent
