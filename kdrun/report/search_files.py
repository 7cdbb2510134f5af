"""A search in files: results.csv, results.json, results.md and its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdrun.artefacts import write_text
from kdrun.errors import KdrunError
from kdrun.report import sweeps
from kdrun.report.blocks import Block, Bullets, Code, Table, page, starred
from kdrun.report.read import content_of, run_folder
from kdrun.report.read import read as read_report
from kdrun.report.search_plots import history, importance, slices
from kdrun.report.search_table import BY, heading, notes, row, title
from kdrun.report.searches import Search, Trial
from kdrun.report.tables import as_csv

WHAT: tuple[sweeps.What, ...] = ("teacher", "student", "control", "gain")


def write(folder: Path, search: Search) -> list[str]:
    """Writes the files into the folder; their names. Pictures without figures are left out."""
    drawn = _drawn(folder, search)
    texts = {
        "results.csv": csv_text(search),
        "results.json": json.dumps(record(search), indent=1, allow_nan=False) + "\n",
        "results.md": markdown(search, drawn),
    }
    for name, content in texts.items():
        write_text(folder / name, content)
    return [*texts, *drawn]


def _drawn(folder: Path, search: Search) -> list[str]:
    """Draws the possible pictures, and removes those of an earlier call; the names of the drawn ones."""
    wanted = {
        "history.png": (history, bool(search.complete)),
        "importance.png": (importance, bool(search.importance)),
        "slices.png": (slices, bool(search.complete)),
    }
    for name, (draw, possible) in wanted.items():
        (folder / name).unlink(missing_ok=True)
        if possible:
            draw(folder / name, search)
    return [name for name, (_, possible) in wanted.items() if possible]


def markdown(search: Search, pictures: list[str]) -> str:
    """results.md: commands, all trials with the best first, notes, pictures."""
    return page("Search", blocks(search), pictures)


def blocks(search: Search) -> list[Block]:
    """The page of a search without its title and pictures."""
    below = list(map(starred, notes(search)))
    failed = [(i, trial.error) for i, trial in enumerate(search.trials, 1) if trial.error]
    below += [f"Trial {i} failed: {error}" for i, error in failed]
    rows, unmarked = [row(search, i) for i in search.ranked], search.best is None
    table = Table(heading(search)[unmarked:], [cells[unmarked:] for cells in rows])
    parts: list[Block] = [Code(search.commands), f"{title(search)}.", table, Bullets(below)]
    return parts + (["The chosen run:", Code([search.chosen])] if search.chosen else [])


def csv_text(search: Search) -> str:
    """results.csv: a line for each trial, in the order in which they were tried."""
    figures = ("validation_mean", "validation_std", "n", "last_seen", "epochs", "seconds", "runs", "error")
    rows: list[list[Any]] = [["trial", "state", *search.keys, *figures]]
    for number, trial in enumerate(search.trials, 1):
        values = [sweeps.value_name(trial.values[key]) for key in search.keys]
        more = [trial.last, trial.epochs, trial.seconds, " ".join(trial.runs), trial.error]
        rows.append([number, trial.state, *values, *(trial.spread or [None] * 3), *more])
    return as_csv(rows)


def record(search: Search) -> dict[str, Any]:
    """results.json: the trials in the order in which they were tried, importance, and the chosen one with its
    figures on test. Folders are relative to the outputs folder.
    """
    trials = [
        {"trial": i, **trial._asdict(), "curve": list(trial.curve.items()), "values": dict(trial.values)}
        for i, trial in enumerate(search.trials, 1)
    ]
    content: dict[str, Any] = {
        "keys": list(search.keys),
        "commands": list(search.commands),
        "repeats": list(search.repeats),
        "validation_images": search.images,
        "importance": dict(search.importance),
        "importance_is": BY,
        "logarithmic": sorted(search.logarithmic),
        "default_first": search.default,
        "trials": trials,
    }
    if search.best is not None:
        tested = [
            {
                "folder": job["folder"],
                "overrides": dict(job["overrides"]),
                "test": sweeps.figures(job["report"], WHAT, "test"),
            }
            for job in search.jobs
        ]
        within = search.choice.within if search.choice else {search.best}
        content["chosen"] = {
            "trial": search.best + 1,
            "within_the_noise": sorted(i + 1 for i in within),
            "command": search.chosen,
            "runs": tested,
        }
    return content


def read(folder: Path) -> Search:
    """The search that `write` wrote into a folder. Raises KdrunError if there is none."""
    content = content_of(folder / "results.json")
    try:
        chosen = content.get("chosen", {"command": "", "runs": []})
        jobs = [
            {**run, "report": read_report(run_folder(folder.parent.parent, run["folder"]))}
            for run in chosen["runs"]
        ]
        trials = [
            Trial(**{name: each[name] for name in Trial._fields} | {"curve": dict(each["curve"])})
            for each in content["trials"]
        ]
        keys, images = tuple(content["keys"]), content["validation_images"]
        return Search(
            keys,
            frozenset(content["logarithmic"]),
            tuple(trials),
            images,
            tuple(content["repeats"]),
            content["default_first"],
            content["importance"],
            tuple(jobs),
            tuple(content["commands"]),
            chosen["command"],
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise KdrunError(str(folder / "results.json"), None, "is no record of a search") from error


def as_text(search: Search, format: str) -> str:
    """The content of the file of that format: md, csv or json."""
    if format == "json":
        return json.dumps(record(search), indent=1, allow_nan=False)
    return csv_text(search) if format == "csv" else markdown(search, [])
