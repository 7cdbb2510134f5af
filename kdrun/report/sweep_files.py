"""A sweep in files: results.csv, results.json, results.md, results.tex and its plots."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdrun.artefacts import write_text
from kdrun.figures import minute
from kdrun.nested import known
from kdrun.report import controls_sweep, int8_sweep, latex, sweep_plots, sweeps, tradeoff
from kdrun.report.blocks import Block, Bullets, Code, Table, page, starred
from kdrun.report.read import contents
from kdrun.report.schema import ModelReport, PartName, Report, data_name
from kdrun.report.statistics import RankMark, marks_of_most
from kdrun.report.sweep_table import Figures, listed, more_tables, named, notes, values
from kdrun.report.sweep_verdict import sees
from kdrun.report.sweeps import PARTS, Choice, JobRecord, Setting, What
from kdrun.report.tables import Column, as_csv

FIGURES: tuple[What, ...] = ("student", "control", "gain")
NAMES: dict[tradeoff.Cost, str] = {"latency": "latency_ms", "size": "params"}
"""Of costs, in csv and json."""


def write(folder: Path, jobs: Sequence[JobRecord]) -> list[str]:
    """Writes results.csv, .json, .md and .tex into the folder, and the pictures for the swept keys; the names
    of the files."""
    plots = sweep_plots.draw(folder, jobs)
    texts = {
        "results.csv": csv_text(jobs),
        "results.json": json_text(jobs),
        "results.md": markdown(jobs, plots, commands(folder)),
        "results.tex": tex(jobs),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*texts, *plots]


def markdown(jobs: Sequence[JobRecord], plots: Sequence[str] = (), commands: Sequence[str] = ()) -> str:
    """results.md: what was run, all settings on both parts, marks and notes, the failed jobs, the plots."""
    return page("Sweep", blocks(jobs, commands), plots)


def blocks(jobs: Sequence[JobRecord], commands: Sequence[str] = ()) -> list[Block]:
    """The page of a sweep without its title and plots."""
    settings, keys = sweeps.settings(jobs), sweeps.swept(jobs)
    part, chosen = sweeps.shown_part(jobs), sweeps.choice(settings)
    columns = listed(settings, keys, _measured(settings), part, chosen)
    columns.append(Column("n", [str(len(setting.reports)) for setting in settings]))
    parts: list[Block] = [Code(commands)] if commands else []
    over = f" over the control{seen}" if (seen := sees(settings)) else ""
    shown = sweeps.none_finished(settings) or f"Top-1 in %, gain in points{over}, {sweeps.means(settings)}"
    body = list(zip(*(column.texts for column in columns), strict=True))
    table = Table([column.heading for column in columns], body, left=1 if chosen or keys else 0)
    parts += [*_about(jobs), f"{shown}.", table]
    for about, (head, *body) in more_tables(settings):
        parts += [f"{about}:", Table([*head[:-1], head[-1] or "verdict"], body)]
    below = list(map(starred, notes(jobs, settings, part, chosen)))
    return parts + ([Bullets(below)] if below else [])


def as_text(jobs: Sequence[JobRecord], format: str) -> str:
    """The content of the file of that format: md, csv, json or tex."""
    return {"md": markdown, "csv": csv_text, "json": json_text, "tex": tex}[format](jobs)


def commands(folder: Path) -> list[str]:
    """The commands of a sweep's folder, each once, the first one first. Damaged ones are left out."""
    calls = (call for call in contents(folder / "calls") if isinstance(call, dict))
    typed = dict.fromkeys(str(call.get("command", "")) for call in calls)
    return [command for command in typed if words_of(command)]


def words_of(command: str) -> list[str]:
    """The words of a recorded command; none if it is no command of kdrun."""
    try:
        words = shlex.split(command)
    except ValueError:  # an open quote
        return []
    return words if words[:1] in (["kdrun"], ["torchrun"]) else []


def tex(jobs: Sequence[JobRecord]) -> str:
    """results.tex: a line per setting, with mean and std on both parts, for a document with booktabs.

    With several seeds the best student on each part is bold, and its ties are underlined.
    """
    settings = sweeps.settings(jobs)
    columns, marked = _measured(settings), {part: _marked(settings, part) for part in PARTS}
    rows = [
        latex.TableRow(
            named(setting), [_figure(setting, w, p, marked[p].get(str(i))) for w, p in columns.values()]
        )
        for i, setting in enumerate(settings)
    ]
    about = " ".join(f"{line}." for line in _about(jobs))
    caption = f"{about} Top-1 in %, gain in points, {sweeps.means(settings)}."
    caption += latex.MARKED if any(marked.values()) else ""
    return latex.latex(list(columns), rows, caption, digits=1)


def records(jobs: Sequence[JobRecord]) -> list[dict[str, Any]]:
    """results.json: a record per setting with mean, std and n by part and figure, its mark, and its runs.
    Folders are relative to the outputs folder. If the student models differ: latency_ms, params, front.
    """
    settings = sweeps.settings(jobs)
    chosen = sweeps.choice(settings)
    rows = [_record(setting, _mark_name(chosen, i)) for i, setting in enumerate(settings)]
    if tradeoff.models_differ(settings):
        on = tradeoff.fronts(tradeoff.points(settings, sweeps.shown_part(jobs)))
        for place, (record, setting) in enumerate(zip(rows, settings, strict=True)):
            costs = {NAMES[cost]: tradeoff.mean_cost(setting, "student", cost) for cost in tradeoff.COSTS}
            record |= known({**costs, "front": on.get(place)})
    return rows


def csv_text(jobs: Sequence[JobRecord]) -> str:
    """results.csv: one line per setting; figures that no job has are empty."""
    keys = sweeps.swept(jobs)
    columns = [(part, what) for part in PARTS for what in FIGURES]
    names = [f"{part}_{what}_{figure}" for part, what in columns for figure in ("mean", "std", "n")]
    kept = records(jobs)
    costs = [name for name in (*NAMES.values(), "front") if any(name in record for record in kept)]
    own = ["finished", "failed", "mark"]
    rows: list[list[Any]] = [[*keys, *own, *names, *costs]]
    for setting, record in zip(sweeps.settings(jobs), kept, strict=True):
        figures = [record.get(part, {}).get(what, {}) for part, what in columns]
        cells = [figure.get(name) for figure in figures for name in ("mean", "std", "n")]
        rows.append(
            [*values(setting, keys), *(record.get(name) for name in own), *cells, *map(record.get, costs)]
        )
    return as_csv(rows)


def json_text(jobs: Sequence[JobRecord]) -> str:
    """`records` as JSON."""
    return json.dumps(records(jobs), indent=1, allow_nan=False) + "\n"


def _about(jobs: Sequence[JobRecord]) -> list[str]:
    """`cnn_digits -> cnn_digits_small on digits_few, 2026-01-02 03:04`; several if the sweep has several."""
    reports = sweeps.reports(jobs)
    pairs = dict.fromkeys(map(_pair, reports))
    dates = [report["created"] for report in reports if "created" in report]
    when = f", {minute(max(dates))}" if dates else ""
    return [f"{', '.join(pairs)}{when}"] if pairs else []


def _pair(report: Report) -> str:
    names = [report["models"].get(role, ModelReport()).get("name") for role in ("teacher", "student")]
    return f"{' -> '.join(name for name in names if name)} on {data_name(report) or 'data'}"


def _marked(settings: Sequence[Setting], part: PartName) -> dict[str, RankMark]:
    """By position: the best student among the settings with the most finished seeds, and its ties."""
    return marks_of_most(
        {str(i): sweeps.by_repeat(setting, "student", part) for i, setting in enumerate(settings)}
    )


def _figure(setting: Setting, what: What, part: PartName, mark: RankMark | None) -> latex.Cell:
    spread = sweeps.spread(setting, what, part)
    if spread is None:
        return None
    return latex.Number(spread.mean, spread.std, mark if what == "student" else None, gain=what == "gain")


def _measured(settings: Sequence[Setting]) -> Figures:
    """The figures that some setting has, by their headings."""
    every = [(what, part) for part in PARTS for what in FIGURES]
    return {
        f"{what}, {part}": (what, part)
        for what, part in every
        if any(sweeps.spread(setting, what, part) is not None for setting in settings)
    }


def _mark_name(chosen: Choice | None, position: int) -> str:
    if chosen is None or position not in chosen.within:
        return ""
    return "best" if position == chosen.best else "within the noise"


def _record(setting: Setting, mark: str) -> dict[str, Any]:
    finished = len(setting.reports)
    record: dict[str, Any] = {"values": setting.values, "finished": finished}
    record |= {"failed": len(setting.jobs) - finished, "mark": mark}
    own = {"controls": controls_sweep.record(setting), "int8": int8_sweep.record(setting)}
    record |= {name: figures for name, figures in own.items() if figures}
    for part in PARTS:
        spreads = {what: spread for what in FIGURES if (spread := sweeps.spread(setting, what, part))}
        if spreads:
            record[part] = {what: spread.record() for what, spread in spreads.items()}
    return record | {"runs": [_run(job) for job in setting.jobs]}


def _run(job: JobRecord) -> dict[str, Any]:
    run = {"folder": job.get("folder"), "error": job.get("error"), "overrides": dict(job["overrides"])}
    for part in PARTS if job["report"] else ():
        run[part] = sweeps.figures(job["report"], ("teacher", *FIGURES), part) or None
    return known(run)
