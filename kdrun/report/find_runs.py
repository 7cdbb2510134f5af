"""Finds the runs in folders: finished ones by their reports, unfinished ones by their plans."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kdrun.config.quick import FOLDER as TRIALS
from kdrun.errors import KdrunError
from kdrun.paths import no_folder
from kdrun.records import PLAN
from kdrun.report.read import NAME, content_of, contents, run_folder

DEPTH = 3
"""How many levels below a given folder are searched: outputs/runs/<run>."""

RESULTS = "results.json"
"""The file that lists the runs of a sweep."""


class Found(NamedTuple):
    """finished: folders with a report; those of sweeps and published tables come first. unfinished: folders
    with a plan and without a report.
    """

    finished: list[Path]
    unfinished: list[Path]


def find_runs(folder: Path) -> Found:
    """The runs that a folder is, lists or contains, at most DEPTH levels below it."""
    finished: dict[Path, None] = {}
    reports: list[Path] = []
    unfinished = []
    for place, names in _walked(folder, DEPTH):
        if place == folder and NAME in names:
            return Found([folder], [])
        if RESULTS in names or {"jobs", "calls"} <= names:
            finished |= dict.fromkeys(_listed(place, RESULTS in names))
        if NAME in names:
            reports.append(place)
        elif PLAN in names:
            unfinished.append(place)
    return Found([*(finished | dict.fromkeys(reports))], unfinished)


def runs_in(folder: Path) -> list[Path]:
    """The folders of the finished runs of `find_runs`, without trials. Raises KdrunError if there is none."""
    every = find_runs(folder).finished
    above = cache(lambda parent: parent.resolve())  # asked of many runs in one folder
    finished = [run for run in every if _real(run, above).parent.parent.name != TRIALS]
    if every and not finished:
        raise KdrunError(str(folder), None, "holds only trials (quick=true), which are no results")
    if not finished:
        problem = "no finished run in it" if folder.is_dir() else no_folder(folder) or "no such folder"
        raise KdrunError(str(folder), None, f"{problem} (a finished run has a {NAME})")
    return finished


def _real(path: Path, above: Callable[[Path], Path]) -> Path:
    """The path without links. above: does so for the folder in which it is."""
    return path.resolve() if path.is_symlink() else above(path.parent) / path.name


def _walked(folder: Path, depth: int) -> Iterator[tuple[Path, set[str]]]:
    """This folder and those below it, sorted by name, each with the names of its entries."""
    try:
        with os.scandir(folder) as entries:
            inside = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError:
        return
    yield folder, {name for name, _ in inside}
    for name, is_folder in inside if depth else ():
        if is_folder:
            yield from _walked(folder / name, depth - 1)


def _listed(folder: Path, results: bool) -> Iterator[Path]:
    """The finished runs that the results of a sweep or the jobs of a published table name."""
    outputs = folder.parent.parent
    for name in _names(folder / RESULTS) if results else _jobs(folder / "jobs"):
        place = run_folder(outputs, name)
        if (place / NAME).is_file():
            yield place


def _names(file: Path) -> Iterator[str]:
    settings = content_of(file)
    for setting in settings if isinstance(settings, list) else ():
        yield from (run.get("folder", "") for run in setting.get("runs", ()))


def _jobs(folder: Path) -> Iterator[str]:
    for job in contents(folder):
        run = job.get("run") if isinstance(job, dict) else None
        if isinstance(run, str):
            yield run
