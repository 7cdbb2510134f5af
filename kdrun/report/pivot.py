"""`kdrun report DIR... --rows method --cols pair --value gain`: a cross table of the runs of some folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from kdrun.config.choices import REPEATS
from kdrun.errors import KdrunError
from kdrun.figures import ABSENT, count, p_value, percent, plural, signed, three_digits
from kdrun.garbage import uncollected
from kdrun.nested import grouped, leaves
from kdrun.report.latex import MARKED, Number, TableRow, latex
from kdrun.report.ranks import MethodRanks, mean_ranks
from kdrun.report.run_records import UNTOLD, Record, record, repeats
from kdrun.report.runs import reports_of
from kdrun.report.schema import Report
from kdrun.report.statistics import RankMark, Spread, marks_of_most, spread
from kdrun.report.sweeps import value_name
from kdrun.report.tables import as_csv, columns, grid, paragraph, pipe_table
from kdrun.report.tradeoff import latency

NAMES = {
    "gain": "gain_top1",
    "student": "student_top1",
    "teacher top-1": "teacher_top1",
    "student top-1": "student_top1",
    "control top-1": "control_top1",
    "parameters": "params",
}
"""Words that the user can type, and the names of their figures in a record."""

PERCENT = ("gain", "top1", "top5", "ece", "agreement", "across_blocks")
"""What is in the names of figures in percent or points; others are shown with three significant digits."""

SETS = ("dataset", "dataset.name", "pair", "dataset.split")
"""Keys of columns over which rows are ranked: each value is another set of images or pair of models."""

Place = tuple[str, str]
"""The names of a row and a column."""

Cells = dict[Place, Spread]


@uncollected()
def render(
    folders: Sequence[Path],
    rows: str,
    cols: str,
    value: str,
    format: str = "text",
    width: int = 80,
    warn: Callable[[str], None] = lambda line: None,
) -> str:
    """The mean of a figure over the runs of each cell, with std and n; over data sets also mean ranks.

    rows, cols: `method`, `pair`, `dataset`, or any key. value: a word of NAMES, `latency`, or the name of any
    figure in `--format json`. warn: gets a line if runs of one cell differ in more than their seeds, and for
    each damaged report, which is left out. Raises KdrunError if no run has such a key or figure.
    """
    runs = reports_of(folders, warn)
    reports = [report for _, report in runs]
    records = [_known(run, report, (rows, cols)) for run, report in runs]
    name = NAMES.get(value, value)
    figures = {key for run in records for key, one in run.items() if isinstance(one, (int, float))}
    for option, asked, known in (("--rows", rows, None), ("--cols", cols, None), ("--value", name, figures)):
        if not any(asked in (run if known is None else known) for run in records):
            choices = sorted(figures if known else {key for run in records for key in run})
            raise KdrunError(option, value if known else asked, "no run has it", choices)
    shown = [(one, report) for one, report in zip(records, reports, strict=True) if name in one]
    places = [_place(one, rows, cols) for one, _ in shown]
    mixed, keys = mixtures(places, [report for _, report in shown])
    if mixed:
        cell = (
            f"the cell of {mixed[0][0]} and {mixed[0][1]}" if len(mixed) == 1 else plural(len(mixed), "cell")
        )
        warn(f"runs with different settings are in {cell}: they differ in {', '.join(keys)}")
    table = cells(records, rows, cols, name)
    if format == "tex":
        return _tex(table, best(shown, places, name), rows, value)
    return _drawn(table, ranks(table, cols, name), rows, cols, value, format, width)


def mixtures(places: Sequence[Place], reports: Sequence[Report]) -> tuple[list[Place], list[str]]:
    """The cells whose runs differ in more than REPEATS, and the keys that they differ in.

    places: the cell of each report. Of keys that change together (alpha, and the weights that follow from it)
    only the one that is typed is named.
    """
    flat = [dict(leaves(report.get("config", {}))) for report in reports]
    aside = (*UNTOLD, "evaluation", "experiment")
    every = dict.fromkeys(chain(*flat))
    compared = (key for key in every if key not in REPEATS and key.split(".")[0] not in aside)
    patterns: dict[tuple[str, ...], str] = {}
    for key in sorted(compared, key=lambda key: key.count(".")):
        patterns.setdefault(tuple(repr(values.get(key)) for values in flat), key)
    mixed: dict[Place, None] = {}
    keys = []
    for pattern, key in patterns.items():
        values: dict[Place, set[str]] = {}
        for place, own in zip(places, pattern, strict=True):
            values.setdefault(place, set()).add(own)
        several = [place for place, own in values.items() if len(own) > 1]
        mixed |= dict.fromkeys(several)
        keys += [key] if several else []
    return list(mixed), keys


def ranks(table: Cells, cols: str, name: str) -> MethodRanks | None:
    """The ranks of the rows over the columns, if these are data sets and more is better; else None."""
    if cols not in SETS or not _more_is_better(name):
        return None
    scores: dict[str, dict[str, float]] = {}
    for (row, column), one in table.items():
        scores.setdefault(column, {})[row] = one.mean
    try:
        return mean_ranks(scores)
    except ValueError:
        return None


def _place(run: Record, rows: str, cols: str) -> Place:
    return value_name(run.get(rows, ABSENT)), value_name(run.get(cols, ABSENT))


def cells(records: Sequence[Record], rows: str, cols: str, name: str) -> Cells:
    """The spread of a figure in each cell, by the names of its row and column, in order of appearance."""
    known = [run for run in records if name in run]
    by_place = grouped(known, lambda run: _place(run, rows, cols))
    return {place: spread([run[name] for run in own]) for place, own in by_place.items()}


def _known(folder: Path, report: Report, keys: Sequence[str]) -> Record:
    """A run's record with its pair and the median latency of the student at its smallest batch, in ms."""
    known = record(folder, report)
    known["pair"] = f"{known.get('teacher', ABSENT)} -> {known.get('student', ABSENT)}"
    if further := [key for key in keys if key not in known]:
        values = dict(leaves(report.get("config", {})))
        known |= {key: values[key] for key in further if values.get(key) is not None}
    row = latency(report, "student")
    if row is not None:
        known["latency"] = row["p50_ms"]
    return known


def _drawn(
    table: Cells, ranked: MethodRanks | None, rows: str, cols: str, value: str, format: str, width: int
) -> str:
    down, across = (list(dict.fromkeys(place[i] for place in table)) for i in (0, 1))
    if format in ("csv", "json"):
        return _data(table, rows, cols, format)
    texts = [[row, *(_shown(table.get((row, column)), value) for column in across)] for row in down]
    head, below = [rows, *across], ""
    if ranked is not None:
        head.append("mean rank")
        texts = [[*cells, _rank(ranked, cells[0])] for cells in texts]
        below = _about(ranked, cols)
    if format == "md":
        return "\n".join([*pipe_table(head, texts, left=1), *(["", below] if below else [])]) + "\n"
    title = f"{value}: mean +- std (n) by {rows} and {cols}"
    drawn = grid(columns(head, texts), width)
    return f"{title}\n\n{drawn}" + (paragraph(f"\n{below}", width) if below else "")


def best(shown: Sequence[tuple[Record, Report]], places: Sequence[Place], name: str) -> dict[Place, RankMark]:
    """The best row of each column and its ties, if more is better; a cell of mixed settings has no mark."""
    if not _more_is_better(name):
        return {}
    columns: dict[str, dict[str, dict[Any, float]]] = {}
    for (run, report), (row, column) in zip(shown, places, strict=True):
        repeat = run.get("seed"), *repeats(report.get("config", {})).values()
        columns.setdefault(column, {}).setdefault(row, {})[repeat] = run[name]
    alone = {place for place in places if places.count(place) == len(columns[place[1]][place[0]])}
    own = {c: {r: each for r, each in rows.items() if (r, c) in alone} for c, rows in columns.items()}
    return {(r, c): mark for c, rows in own.items() for r, mark in marks_of_most(rows).items()}


def _more_is_better(name: str) -> bool:
    return name.startswith("gain") or name.endswith(("top1", "top5"))


def _tex(table: Cells, marked: Mapping[Place, RankMark], rows: str, value: str) -> str:
    down, across = (list(dict.fromkeys(place[i] for place in table)) for i in (0, 1))
    body = [
        TableRow(r, [_figure(table.get((r, c)), marked.get((r, c)), value) for c in across]) for r in down
    ]
    caption = f"{value}, mean +- std." + (MARKED if marked else "")
    return latex(across, body, caption, corner=rows, digits=1)


def _rank(ranked: MethodRanks, row: str) -> str:
    """`1.4 (1.0 to 2.0)`."""
    one = ranked.methods.get(row)
    return ABSENT if one is None else f"{percent(one.mean)} ({percent(one.low)} to {percent(one.high)})"


def _about(ranked: MethodRanks, cols: str) -> str:
    return (
        f"mean rank: 1 is best; 95 % interval over {ranked.sets} columns ({cols}); rows that a column lacks "
        f"are left out. All rows equally good: p {p_value(ranked.p)} (Friedman)."
    )


def _data(table: Cells, rows: str, cols: str, format: str) -> str:
    names = (rows, cols, *Spread._fields)
    body = [(*place, *one) for place, one in table.items()]
    if format == "csv":
        return as_csv([names, *body])
    return json.dumps([dict(zip(names, row, strict=True)) for row in body], indent=1) + "\n"


def _figure(cell: Spread | None, mark: RankMark | None, value: str) -> Number | str | None:
    if cell is None or not _in_percent(value):
        return None if cell is None else _shown(cell, value)
    return Number(cell.mean, cell.std, mark, gain=value.startswith("gain"))


def _shown(cell: Spread | None, value: str) -> str:
    """`+1.2 +- 0.3 (3)`."""
    if cell is None:
        return ABSENT
    show = signed if value.startswith("gain") else percent if _in_percent(value) else _measured
    std = "" if cell.std is None else f" +- {show(cell.std).lstrip('+')}"
    return f"{show(cell.mean)}{std} ({cell.n})"


def _in_percent(value: str) -> bool:
    name = NAMES.get(value, value)
    return _more_is_better(name) or any(word in name for word in PERCENT)


def _measured(value: float) -> str:
    """A whole number, or three significant digits."""
    return count(value) if value == int(value) else three_digits(value)
