"""`kdrun report DIR... --rows method --cols pair --value gain`: the runs of several folders, crossed."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich.table import Table

from kdrun.errors import KdrunError
from kdrun.figures import ABSENT, count, percent, signed, three_digits
from kdrun.nested import leaves
from kdrun.report.latex import Figure, Row, latex
from kdrun.report.markdown import pipe_table
from kdrun.report.read import read
from kdrun.report.runs import Record, all_runs, record
from kdrun.report.schema import Report
from kdrun.report.statistics import Spread, spread
from kdrun.report.sweeps import value_name
from kdrun.report.table import plain

NAMES = {
    "gain": "gain_top1",
    "student": "student_top1",
    "teacher top-1": "teacher_top1",
    "student top-1": "student_top1",
    "control top-1": "control_top1",
    "parameters": "params",
}
"""Words for figures, and their names in a record."""

Cells = dict[tuple[str, str], Spread]


def render(
    folders: Sequence[Path], rows: str, cols: str, value: str, format: str = "text", width: int = 80
) -> str:
    """The mean of a figure over the runs of each cell, with std and n.

    rows, cols: `method`, `pair`, `dataset`, or any key. value: a word of NAMES, `latency`, or the name of any
    figure in `--format json`. Raises KdrunError if no run has one of them.
    """
    records = [_known(run, read(run), (rows, cols)) for run in all_runs(folders)]
    name = NAMES.get(value, value)
    figures = {key for run in records for key, one in run.items() if isinstance(one, (int, float))}
    for option, asked, known in (("--rows", rows, None), ("--cols", cols, None), ("--value", name, figures)):
        if not any(asked in (run if known is None else known) for run in records):
            choices = sorted(figures if known else {key for run in records for key in run})
            raise KdrunError(option, value if known else asked, "no run has it", choices)
    return _drawn(cells(records, rows, cols, name), rows, cols, value, format, width)


def cells(records: Sequence[Record], rows: str, cols: str, name: str) -> Cells:
    """The spread of a figure in each cell, by the names of its row and column, in order of appearance."""
    values: dict[tuple[str, str], list[float]] = {}
    for run in records:
        if name in run:
            place = (value_name(run.get(rows, ABSENT)), value_name(run.get(cols, ABSENT)))
            values.setdefault(place, []).append(run[name])
    return {place: spread(each) for place, each in values.items()}


def _known(folder: Path, report: Report, keys: Sequence[str]) -> Record:
    """A run's record with its pair and the median latency of the student at its smallest batch, in ms."""
    known = record(folder, report)
    known["pair"] = f"{known.get('teacher', ABSENT)} -> {known.get('student', ABSENT)}"
    if further := [key for key in keys if key not in known]:
        values = dict(leaves(report.get("config", {})))
        known |= {key: values[key] for key in further if values.get(key) is not None}
    latencies = report["models"]["student"].get("latency", [])
    if latencies:
        known["latency"] = min(latencies, key=lambda row: row["batch"])["p50_ms"]
    return known


def _drawn(table: Cells, rows: str, cols: str, value: str, format: str, width: int) -> str:
    down, across = (list(dict.fromkeys(place[i] for place in table)) for i in (0, 1))
    if format in ("csv", "json"):
        return _data(table, rows, cols, format)
    if format == "tex":
        gain = value.startswith("gain")
        body = [Row(r, [_figure(table.get((r, c)), gain) for c in across]) for r in down]
        return latex(across, body, f"{value}, mean +- std", corner=rows)
    texts = [[row, *(_shown(table.get((row, column)), value) for column in across)] for row in down]
    if format == "md":
        return "\n".join(pipe_table([rows, *across], texts, left=1)) + "\n"
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate([rows, *across]):
        drawn.add_column(name, justify="right" if i else "left", overflow="fold")
    for cells in texts:
        drawn.add_row(*cells)
    return f"{value}: mean +- std (n) by {rows} and {cols}\n\n{plain(drawn, width)}"


def _data(table: Cells, rows: str, cols: str, format: str) -> str:
    rows_of_cells: list[dict[str, Any]] = [
        {rows: row, cols: column, "mean": one.mean, "std": one.std, "n": one.n}
        for (row, column), one in table.items()
    ]
    if format == "json":
        return json.dumps(rows_of_cells, indent=1) + "\n"
    sink = StringIO()
    writer = csv.DictWriter(sink, [rows, cols, "mean", "std", "n"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_of_cells)
    return sink.getvalue()


def _figure(cell: Spread | None, gain: bool) -> Figure | None:
    return None if cell is None else Figure(cell.mean, cell.std, gain=gain)


def _shown(cell: Spread | None, value: str) -> str:
    """`+1.2 +- 0.3 (3)`."""
    if cell is None:
        return ABSENT
    show = signed if value.startswith("gain") else count if value in ("params", "parameters") else percent
    show = three_digits if value == "latency" else show
    std = "" if cell.std is None else f" +- {show(cell.std).lstrip('+')}"
    return f"{show(cell.mean)}{std} ({cell.n})"
