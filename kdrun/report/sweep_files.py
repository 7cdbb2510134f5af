"""A sweep in files: results.csv, results.json, results.md and its plots."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from kdrun.artefacts import write_text
from kdrun.report import sweeps
from kdrun.report.markdown import pipe_table
from kdrun.report.sweep_plots import heatmap, lines, numeric
from kdrun.report.sweep_table import cell, mark, notes, values
from kdrun.report.sweeps import Choice, Job, Part, Setting, What

PARTS: tuple[Part, ...] = ("validation", "test")
FIGURES: tuple[What, ...] = ("student", "control", "gain")


def write(folder: Path, jobs: Sequence[Job]) -> list[str]:
    """Writes results.csv, results.json, results.md into the folder, and heatmap.png or lines.png if two
    or one swept keys are numbers and some job has finished; the names of what was written."""
    plots = _plot(folder, jobs)
    texts = {
        "results.csv": csv_text(jobs),
        "results.json": json_text(jobs),
        "results.md": markdown(jobs, plots),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*texts, *plots]


def markdown(jobs: Sequence[Job], plots: Sequence[str] = ()) -> str:
    """results.md: all settings on both parts, marks and notes, the failed jobs, the plots that were made."""
    settings, keys = sweeps.settings(jobs), sweeps.swept(jobs)
    part, chosen = sweeps.shown_part(jobs), sweeps.choice(settings)
    columns = [(what, part) for part in PARTS for what in FIGURES if _measured(settings, what, part)]
    head = ["", *map(sweeps.key_name, keys), *(f"{what}, {part}" for what, part in columns), "n"]
    body = []
    for i, setting in enumerate(settings):
        figures = [cell(setting, what, part) for what, part in columns]
        body.append([mark(chosen, i), *values(setting, keys), *figures, _finished(setting)])
    page = ["# Sweep", "", f"Top-1 in %, gain in points, {sweeps.means(settings)}.", ""]
    page += [*pipe_table(head, body), ""]
    page += [
        f"- {'`*`' if note[0] == '*' else note[0]}{note[1:]}" for note in notes(jobs, settings, part, chosen)
    ]
    page += [line for plot in plots for line in ("", f"![{plot.rpartition('.')[0]}]({plot})")]
    return "\n".join(page) + "\n"


def records(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """results.json: a record per setting with mean, std and n by part and figure, its mark, and its runs, the
    folders of which are relative to the outputs folder.
    """
    settings = sweeps.settings(jobs)
    chosen = sweeps.choice(settings)
    return [_record(setting, _mark_name(chosen, i)) for i, setting in enumerate(settings)]


def csv_text(jobs: Sequence[Job]) -> str:
    """results.csv: one line per setting; figures that no job has are empty."""
    keys = sweeps.swept(jobs)
    columns = [(part, what) for part in PARTS for what in FIGURES]
    names = [f"{part}_{what}_{figure}" for part, what in columns for figure in ("mean", "std", "n")]
    sink = StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([*keys, "finished", "failed", "mark", *names])
    for setting, record in zip(sweeps.settings(jobs), records(jobs), strict=True):
        figures = [record.get(part, {}).get(what, {}) for part, what in columns]
        cells = [figure.get(name, "") for figure in figures for name in ("mean", "std", "n")]
        writer.writerow(
            [*values(setting, keys), record["finished"], record["failed"], record["mark"], *cells]
        )
    return sink.getvalue()


def json_text(jobs: Sequence[Job]) -> str:
    """`records` as JSON."""
    return json.dumps(records(jobs), indent=1, allow_nan=False) + "\n"


def _plot(folder: Path, jobs: Sequence[Job]) -> list[str]:
    """Makes the plot that the sweep has axes for, and removes one that an earlier, smaller sweep had left."""
    for name in ("heatmap.png", "lines.png"):
        (folder / name).unlink(missing_ok=True)
    draw = {2: ("heatmap.png", heatmap), 1: ("lines.png", lines)}.get(len(numeric(jobs)))
    if draw is None or all(job["report"] is None for job in jobs):
        return []
    name, plot = draw
    plot(folder / name, jobs)
    return [name]


def _measured(settings: Sequence[Setting], what: What, part: Part) -> bool:
    return any(sweeps.spread(setting, what, part) is not None for setting in settings)


def _finished(setting: Setting) -> str:
    return str(sum(job["report"] is not None for job in setting.jobs))


def _mark_name(chosen: Choice | None, position: int) -> str:
    if chosen is None or position not in chosen.within:
        return ""
    return "best" if position == chosen.best else "within the noise"


def _record(setting: Setting, mark: str) -> dict[str, Any]:
    finished = sum(job["report"] is not None for job in setting.jobs)
    record: dict[str, Any] = {"values": setting.values, "finished": finished}
    record |= {"failed": len(setting.jobs) - finished, "mark": mark}
    for part in PARTS:
        spreads = {what: spread for what in FIGURES if (spread := sweeps.spread(setting, what, part))}
        if spreads:
            record[part] = {what: _without_none(spread._asdict()) for what, spread in spreads.items()}
    return record | {"runs": [_run(job) for job in setting.jobs]}


def _run(job: Job) -> dict[str, Any]:
    figures = {
        part: _without_none(
            {what: sweeps.figure(job["report"], what, part) for what in ("teacher", *FIGURES)}
        )
        for part in PARTS
    }
    run = {"folder": job.get("folder"), "error": job.get("error"), "overrides": dict(job["overrides"])}
    return _without_none(run) | {part: values for part, values in figures.items() if values}


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
