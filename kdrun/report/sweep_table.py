"""A sweep on the screen and in results.csv, results.json, results.md."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any

from rich.table import Table
from rich.text import Text

from kdrun.report import sweeps
from kdrun.report.figures import ABSENT, percent, plural, signed
from kdrun.report.markdown import pipe_table
from kdrun.report.sweeps import Choice, Job, Part, Setting, Spread, What
from kdrun.report.table import plain

FAILED = "failed"
PARTS: tuple[Part, ...] = ("validation", "test")
FIGURES: tuple[What, ...] = ("student", "control", "gain")
FAILURES_SHOWN = 5


def text(jobs: Sequence[Job], width: int = 80) -> str:
    """The sweep as plain text, no line longer than width: a grid for two swept keys (seeds apart), else a
    list of settings; then what is marked, what the best does on test, and what the spread does not hold."""
    found = sweeps.settings(jobs)
    part = sweeps.shown_part(jobs)
    what = sweeps.shown_figure(jobs, part)
    chosen = sweeps.choice(found)
    keys = sweeps.swept(jobs)
    body = _list(found, keys, part, what, chosen)
    if len(keys) == 2:
        grids = (_grid(found, keys, part, what, chosen), _grid(found, keys[::-1], part, what, chosen))
        body = next((grid for grid in grids if _columns(grid) <= width), body)
    notes = "\n".join(_notes(jobs, found, part, chosen))
    head = "\n".join(title(found, part, what))
    return f"{plain(Text(head), width)}\n{plain(body, width)}{plain(Text(notes), width) if notes else ''}"


def title(found: Sequence[Setting], part: Part, what: What) -> tuple[str, str]:
    """`gain over control on validation, points, mean +- std of 3 seeds` and `control 86.8 +- 1.1`."""
    over = sweeps.repeats(found)
    mean = over if over == "one seed" else f"mean +- std of {over}"
    if what == "student":
        return f"top-1 of the student on {part}, %, {mean}", "no control"
    control = sweeps.shared_control(found, part)
    beside = (
        f"control {spread_text(control, 'control')} %" if control else "the control differs between settings"
    )
    return f"gain over control on {part}, points, {mean}", beside


def spread_text(spread: Spread | None, what: What) -> str:
    """`+3.9 +- 0.4` for a gain, `90.6 +- 0.3` for an accuracy, without the second half for a single value."""
    if spread is None:
        return ABSENT
    mean = signed(spread.mean) if what == "gain" else percent(spread.mean)
    return mean if spread.std is None else f"{mean} +- {percent(spread.std)}"


def markdown(jobs: Sequence[Job], plots: Sequence[str] = ()) -> str:
    """results.md: all settings on both parts, marks and notes, the failed jobs, the plots that were made."""
    found, keys = sweeps.settings(jobs), sweeps.swept(jobs)
    part, chosen = sweeps.shown_part(jobs), sweeps.choice(found)
    what = sweeps.shown_figure(jobs, part)
    columns = [(what, part) for part in PARTS for what in FIGURES if _measured(found, what, part)]
    head = ["", *map(sweeps.key_name, keys), *(f"{what}, {part}" for what, part in columns), "n"]
    body = [
        [
            _mark(chosen, i),
            *_values(setting, keys),
            *(_cell(setting, *c) for c in columns),
            _finished(setting),
        ]
        for i, setting in enumerate(found)
    ]
    lines = ["# Sweep", "", f"Top-1 in %, {title(jobs, found, part, what)}.", ""]
    lines += [
        *pipe_table(head, body, left=1 + len(keys)),
        "",
        *(f"- {n}" for n in _notes(jobs, found, part, chosen)),
    ]
    lines += [line for plot in plots for line in ("", f"![{plot.rpartition('.')[0]}]({plot})")]
    return "\n".join(lines) + "\n"


def records(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """results.json: one record per setting with mean, std and n by part and figure, its mark, and its runs."""
    found = sweeps.settings(jobs)
    chosen = sweeps.choice(found)
    return [_record(setting, _mark_name(chosen, i)) for i, setting in enumerate(found)]


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
            [*_values(setting, keys), record["finished"], record["failed"], record["mark"], *cells]
        )
    return sink.getvalue()


def json_text(jobs: Sequence[Job]) -> str:
    """`records` as JSON."""
    return json.dumps(records(jobs), indent=1, allow_nan=False) + "\n"


def _grid(
    found: Sequence[Setting], keys: Sequence[str], part: Part, what: What, chosen: Choice | None
) -> Table:
    rows, columns = (sweeps.values_of(found, key) for key in keys)
    cells = {
        tuple(_values(setting, keys)): f"{_mark(chosen, i)} {_cell(setting, what, part)}"
        for i, setting in enumerate(found)
    }
    table = _table()
    table.add_column("")
    for column in columns:
        table.add_column(f"{sweeps.key_name(keys[1])} {column}", justify="right")
    for row in rows:
        table.add_row(f"{sweeps.key_name(keys[0])} {row}", *(cells.get((row, c), ABSENT) for c in columns))
    return table


def _list(
    found: Sequence[Setting], keys: Sequence[str], part: Part, what: What, chosen: Choice | None
) -> Table:
    columns: list[tuple[str, What, Part]] = [("student", "student", part)]
    if what == "gain" and sweeps.shared_control(found, part) is None:
        columns.append(("control", "control", part))
    columns += [("gain", "gain", part)] if what == "gain" else []
    table = _table()
    table.add_column("")
    for key in keys:
        words = any(sweeps.number(setting.values[key]) is None for setting in found)
        table.add_column(sweeps.key_name(key), overflow="fold", justify="left" if words else "right")
    for name, _, _ in columns:
        table.add_column(name, justify="right")
    for i, setting in enumerate(found):
        table.add_row(
            _mark(chosen, i), *_values(setting, keys), *(_cell(setting, w, p) for _, w, p in columns)
        )
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=True)


def _columns(table: Table) -> int:
    return max(map(len, plain(table, 10_000).splitlines()))


def _notes(jobs: Sequence[Job], found: Sequence[Setting], part: Part, chosen: Choice | None) -> Iterator[str]:
    if chosen is not None:
        yield (
            "* best student on validation, or at most one standard error below it (seeds, paired, and the "
            f"{plural(chosen.images, 'validation image')} together)"
        )
        yield f"The best on test: {_named(found[chosen.best])}: {_on_test(found[chosen.best])}"
    elif len(found) == 1 and part == "validation":
        yield f"On test: {_on_test(found[0])}"
    elif len(found) > 1:
        yield "No validation part: nothing is chosen, since a choice by test figures would flatter itself."
    if sweeps.one_teacher(found):
        yield "The spread leaves out the teacher's: one teacher serves all seeds of a setting."
    counts = [sum(job["report"] is not None for job in setting.jobs) for setting in found]
    for setting, count in zip(found, counts, strict=True):
        if 0 < count < max(counts):
            yield f"Only {count} of {max(counts)} finished, so not compared: {_named(setting)}"
    yield from _failures(jobs)


def _on_test(setting: Setting) -> str:
    """`90.9 +- 0.4 %, +4.1 +- 0.8 points over the control (better in 3 of 3)`."""
    gain, student = (sweeps.spread(setting, what, "test") for what in ("gain", "student"))
    if gain is None:
        return "not measured" if student is None else f"{spread_text(student, 'student')} %"
    gains = [sweeps.figure(job["report"], "gain", "test") for job in setting.jobs]
    better = sum(value is not None and value > 0 for value in gains)
    over = f"{spread_text(gain, 'gain')} points over the control (better in {better} of {gain.n})"
    return f"{spread_text(student, 'student')} %, {over}"


def _failures(jobs: Sequence[Job]) -> Iterator[str]:
    failed = [job for job in jobs if job["report"] is None]
    for job in failed[:FAILURES_SHOWN]:
        overrides = " ".join(f"{key}={sweeps.value_name(value)}" for key, value in job["overrides"].items())
        yield f"Failed: {overrides}: {' '.join(str(job.get('error') or 'no report').split())}"
    if len(failed) > FAILURES_SHOWN:
        yield f"Failed: {len(failed) - FAILURES_SHOWN} more"


def _named(setting: Setting) -> str:
    named = [f"{sweeps.key_name(key)} {sweeps.value_name(value)}" for key, value in setting.values.items()]
    return ", ".join(named) or "the only setting"


def _values(setting: Setting, keys: Sequence[str]) -> list[str]:
    return [sweeps.value_name(setting.values[key]) for key in keys]


def _cell(setting: Setting, what: What, part: Part) -> str:
    if all(job["report"] is None for job in setting.jobs):
        return FAILED
    return spread_text(sweeps.spread(setting, what, part), what)


def _measured(found: Sequence[Setting], what: What, part: Part) -> bool:
    return any(sweeps.spread(setting, what, part) is not None for setting in found)


def _finished(setting: Setting) -> str:
    return str(sum(job["report"] is not None for job in setting.jobs))


def _mark(chosen: Choice | None, position: int) -> str:
    return "*" if chosen is not None and position in chosen.within else ""


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
    return _without_none(run) | {part: found for part, found in figures.items() if found}


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
