"""`kdrun report DIR...`: the finished runs of some folders in one table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kdrun.config.choices import REPEATS
from kdrun.errors import KdrunError
from kdrun.figures import ABSENT
from kdrun.garbage import uncollected
from kdrun.nested import grouped
from kdrun.report.blocks import Table, as_markdown
from kdrun.report.find_runs import runs_in
from kdrun.report.latex import MARKED, Number, TableRow, latex
from kdrun.report.read import read
from kdrun.report.run_records import (
    DIFFERENCES,
    SORTS,
    Record,
    Run,
    by_key,
    latest,
    means,
    record,
    repeats,
    told,
)
from kdrun.report.runs_text import MEAN_TITLE, TITLE, Cell, block, cells, pair
from kdrun.report.statistics import RankMark, marks_of_most, spread
from kdrun.report.sweeps import key_name, value_name
from kdrun.report.tables import as_csv, paragraph

FORMATS = ("text", "md", "csv", "json", "tex")

COLUMNS = {name: SORTS[name] for name in ("teacher", "student", "control", "gain")}

CAPTION = "Top-1 on test in %, gain over the control in points; mean +- std over seeds."


@uncollected()
def render(
    folders: Sequence[Path],
    format: str = "text",
    width: int = 80,
    sort: str = "",
    last: str = "",
    warn: Callable[[str], None] = lambda line: None,
    seeds: str = "each",
) -> str:
    """One line for each finished run, in the order of the folders; text has a block for each pair.

    seeds: `mean` for one line for each setting, with means over the runs that differ in REPEATS alone.
    folders: of runs, of sweeps, or with runs in them.
    format: text, md, csv, json or tex. csv and json have figures of 12 digits, and leave out what was not
    measured; tex has means over repeats. sort: a figure or a word to sort by (`run_records.by_key`). last:
    how many of the latest runs are shown. warn: gets a line for each damaged report, which is left out.
    Raises KdrunError for a folder without a finished run, for another format, and for a wrong sort or last.
    """
    if format not in FORMATS:
        raise KdrunError("format", format, "no such format", FORMATS)
    runs = reports_of(folders, warn)
    runs = latest(runs, last) if last else runs
    records = [record(*run) for run in runs]
    if sort and (seeds == "each" or format == "tex"):
        order = by_key(records, sort)
        runs, records = [runs[i] for i in order], [records[i] for i in order]
    configs = [report.get("config", {}) for _, report in runs]
    if format == "tex":
        repeated = [record | repeats(config) for record, config in zip(records, configs, strict=True)]
        return tex(*told(repeated, configs, None))
    if seeds == "mean":
        return _means(records, configs, format, width, sort)
    if format == "text":
        own = [([records[i] for i in own], [configs[i] for i in own]) for own in _by_pair(records)]
        return _titled(TITLE, [block(*told(*both), width) for both in own], width)
    whole, keys = told(records, configs)
    return _written(format, list(map(_exact, whole)), cells(keys))


def _means(records: Sequence[Record], configs: Sequence[Record], format: str, width: int, sort: str) -> str:
    settings, keys = means(records, configs)
    if sort:
        settings = [settings[i] for i in by_key(settings, sort)]
    keys = keys[:DIFFERENCES]
    if format == "text":
        blocks = [block([settings[i] for i in own], keys, width, mean=True) for own in _by_pair(settings)]
        return _titled(MEAN_TITLE, blocks, width)
    return _written(format, list(map(_exact, settings)), cells(keys, mean=True))


def _titled(title: str, blocks: Sequence[str], width: int) -> str:
    return "\n".join([paragraph(title, width), *blocks])


def _by_pair(records: Sequence[Record]) -> list[list[int]]:
    """The places of the records of each data set and pair, in the order of the records."""
    return list(grouped(range(len(records)), lambda place: pair(records[place])).values())


def _exact(record: Record) -> Record:
    """The record with 12 digits of each figure: 72.9 for 72.89999999999999."""
    return {
        key: float(f"{value:.12g}") if isinstance(value, float) else value for key, value in record.items()
    }


def _written(format: str, records: Sequence[Record], columns: Sequence[Cell]) -> str:
    if format == "json":
        return json.dumps(records, indent=1) + "\n"
    if format == "md":
        return "\n".join(as_markdown([_table(records, columns)])) + "\n"
    names = list(dict.fromkeys(name for run in records for name in run))
    return as_csv([names, *([run.get(name) for name in names] for run in records)])


def tex(records: Sequence[Record], differs: Sequence[str] = ()) -> str:
    """A heading for each data set and pair, below it a line for each method.

    differs: further keys that tell runs apart. Apart from REPEATS, each value of such a key that differs
    within a method and a pair has a line of its own. The best student and its ties are marked if there are
    several seeds (`statistics.marks_of_most`).
    """
    keys = [key for key in differs if key not in REPEATS]
    alike: dict[tuple[str, str], list[Record]] = {}
    for run in records:
        alike.setdefault((_heading(run), str(run.get("method", ABSENT))), []).append(run)
    places: dict[str, dict[str, list[Record]]] = {}
    for (place, _), runs in alike.items():
        own = [key for key in keys if len({value_name(run.get(key)) for run in runs}) > 1]
        for run in runs:
            places.setdefault(place, {}).setdefault(_method(run, own), []).append(run)
    rows, marked = [], False
    for place, lines in places.items():
        own_marks = _marks(lines)
        marked = marked or bool(own_marks)
        rows.append(TableRow(place))
        rows += [_row(line, runs, own_marks.get(line)) for line, runs in lines.items()]
    return latex([*COLUMNS, "n"], rows, CAPTION + (MARKED if marked else ""), corner="method", digits=1)


def _heading(run: Record) -> str:
    """`digits_few: cnn_digits -> cnn_digits_small`."""
    return f"{run.get('dataset', ABSENT)}: {run.get('teacher', ABSENT)} -> {run.get('student', ABSENT)}"


def _method(run: Record, keys: Sequence[str]) -> str:
    """`kd, temperature 4`."""
    return ", ".join(
        [str(run.get("method", ABSENT)), *(f"{key_name(k)} {value_name(run.get(k))}" for k in keys)]
    )


def _row(name: str, runs: Sequence[Record], mark: RankMark | None) -> TableRow:
    cells: list[Number | str | None] = []
    for column, field in COLUMNS.items():
        values = [run[field] for run in runs if field in run]
        one = spread(values) if values else None
        own = mark if column == "student" else None
        cells.append(None if one is None else Number(one.mean, one.std, own, gain=column == "gain"))
    return TableRow(name, [*cells, str(len(runs))])


def _marks(lines: Mapping[str, Sequence[Record]]) -> dict[str, RankMark]:
    """The best student of a place and its ties, among the lines with the most seeds."""
    by_seed = {
        line: {tuple(map(run.get, REPEATS)): run["student_top1"] for run in runs if "student_top1" in run}
        for line, runs in lines.items()
    }
    return marks_of_most(by_seed)


def table(runs: Sequence[Run]) -> Table:
    """A row for each run, in their order."""
    configs = [report.get("config", {}) for _, report in runs]
    records, keys = told([record(*run) for run in runs], configs)
    return _table(records, cells(keys))


def _table(records: Sequence[Record], columns: Sequence[Cell]) -> Table:
    named: list[Cell] = [("run", _called)] if records and "label" in records[0] else []
    columns = [*named, *columns]
    body = [[cell(run) for _, cell in columns] for run in records]
    return Table([name for name, _ in columns], body, left=len(named) + 4)


def _called(run: Record) -> str:
    """As commands take it: a name that was given, else the short id."""
    return str(run.get("name") or run.get("id") or run["label"])


def reports_of(folders: Sequence[Path], warn: Callable[[str], None]) -> list[Run]:
    """The finished runs of some folders with their reports, each once.

    A damaged report is left out, and `warn` gets a line. Its error is raised if the run itself was named, or
    if no other run is left. Raises KdrunError for a folder without a finished run.
    """
    found: dict[tuple[int, int], Path] = {}
    for run in (run for folder in folders for run in runs_in(folder)):
        place = run.stat()
        found[place.st_dev, place.st_ino] = run
    runs, damaged = [], None
    for run in found.values():
        try:
            runs.append((run, read(run)))
        except KdrunError as error:
            if run in folders:
                raise
            warn(f"left out: {error}")
            damaged = error
    if damaged is not None and not runs:
        raise damaged
    return runs
