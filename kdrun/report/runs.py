"""`kdrun report DIR...`: the finished runs of some folders in one table."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from kdrun.config.quick import FOLDER as TRIALS
from kdrun.errors import KdrunError
from kdrun.figures import ABSENT, count, percent, signed
from kdrun.nested import leaves
from kdrun.report.markdown import pipe_table
from kdrun.report.placing import MODEL
from kdrun.report.read import NAME, content_of, read, run_folder
from kdrun.report.schema import Model, Report, parts, roles, top1
from kdrun.report.sweeps import key_name, value_name
from kdrun.report.table import plain
from kdrun.report.verdict import at_chance

FORMATS = ("text", "md", "csv", "json")
DEPTH = 3
"""How far below a given folder runs are looked for: outputs/runs/<run>."""

SHORT = {"better": "better", "worse": "worse", "no measurable difference": "no difference"}

Record = dict[str, Any]
Column = tuple[str, Callable[[Record], str]]

DIFFERENCES = 3
UNTOLD = (
    "outputs_dir",
    "data_dir",
    "fresh",
    "name",
    "note",
    "tags",
    "stages",
    "device",
    "threads",
    "logger",
    "runtime",
    "packages",
    "diagnostics",
)
"""Keys (with all below them) that do not change what a run is about."""

SHOWN = ("dataset", "method", "teacher", "student", "seed")
WHO = len(SHOWN)
"""So many of the columns say which run it is; the others, how well it did."""


def render(folders: Sequence[Path], format: str = "text", width: int = 80) -> str:
    """One line per finished run, in the order of the folders: each a run, a sweep, or a folder with runs in
    it.

    format: text, md, csv or json; csv and json carry full figures, and leave out what was not measured.
    Raises KdrunError for a folder without a finished run, naming it, and for another format.
    """
    if format not in FORMATS:
        raise KdrunError("format", format, "no such format", FORMATS)
    runs = {run.resolve(): run for folder in folders for run in runs_in(folder)}
    reports = [read(run) for run in runs.values()]
    differs = differing(reports)
    records = [record(run, report, differs) for run, report in zip(runs.values(), reports, strict=True)]
    if format == "json":
        return json.dumps(records, indent=1) + "\n"
    if format == "csv":
        return _csv(records)
    return _text(records, differs, width) if format == "text" else _markdown(records, differs)


def runs_in(folder: Path) -> list[Path]:
    """The folders of the finished runs that a folder is, lists (a sweep's results.json) or holds, DEPTH below
    it at most, without trials.

    Raises KdrunError where there is none.
    """
    if (folder / NAME).is_file():
        found = [folder]
    else:
        found = [run for sweep in _below(folder, "results.json") for run in _of_sweep(sweep)]
        found += [run for run in _below(folder, NAME) if run not in found]
    trials = [run for run in found if run.resolve().parent.parent.name == TRIALS]
    found = [run for run in found if run not in trials]
    if trials and not found:
        raise KdrunError(str(folder), None, "holds only trials (quick=true), which are no results")
    if not found:
        problem = "no finished run in it" if folder.is_dir() else "no such folder"
        raise KdrunError(str(folder), None, f"{problem} (a finished run has a {NAME})")
    return found


def unfinished(folder: Path) -> list[Path]:
    """Runs that were begun, as their plan.json says, and have no report."""
    return [run for run in _below(folder, "plan.json") if not (run / NAME).is_file()]


def differing(reports: Sequence[Report]) -> tuple[str, ...]:
    """Keys of the configuration that tell the runs apart and that no column shows: at most DIFFERENCES,
    the shortest first; of keys that change together (alpha, and the weights that follow from it) only the
    first."""
    flat = [dict(leaves(report.get("config", {}))) for report in reports]
    every = dict.fromkeys(key for values in flat for key in values if key.split(".")[0] not in UNTOLD)
    keys = sorted(every, key=lambda key: key.count("."))
    known = [record(Path(), report) for report in reports]
    told = {_pattern([run.get(name) for run in known]) for name in SHOWN}
    found: list[str] = []
    for key in keys:
        pattern = _pattern([values.get(key) for values in flat])
        if max(pattern, default=0) > 0 and pattern not in told:
            told.add(pattern)
            found.append(key)
    return tuple(found[:DIFFERENCES])


def record(folder: Path, report: Report, differs: Sequence[str] = ()) -> Record:
    """What a run comes to, by name, with the values of the configuration's keys `differs`; what was not
    measured is absent."""
    comparison, distillation = report.get("comparison", {}), report.get("distillation", {})
    names = {role: report["models"].get(role, Model()).get("name") for role in ("teacher", "student")}
    scores = {f"{role}_top1": top1(report, role, "test") for role in ("teacher", "student", "control")}
    values = dict(leaves(report.get("config", {})))
    low, high = comparison.get("gain_interval", (None, None))
    found = {
        "label": report["label"],
        "folder": str(folder),
        "dataset": report["dataset"].get("name"),
        "method": distillation.get("method"),
        "seed": report["seeds"].get("run"),
        **names,
        "params": report["models"]["student"].get("params"),
        "headline": report["headline"],
        **{key: values.get(key) for key in differs},
        **scores,
        "gain_top1": comparison.get("gain_top1"),
        "gain_low": low,
        "gain_high": high,
        "mcnemar_p": comparison.get("mcnemar_p"),
        "verdict": comparison.get("verdict"),
        "at_chance": at_chance(report) or None,
    }
    found |= {name: value for name, value in _figures(report) if name not in found}
    return {key: value for key, value in found.items() if value is not None}


def _figures(report: Report) -> Iterator[tuple[str, float]]:
    """Every figure of a model under the headline on test, as `student_nll`, and those that are about no
    images, as `student_macs`.
    """
    for role in roles(report):
        model = report["models"][role]
        kept = {name: model[name] for name in MODEL if name in model}  # type: ignore[literal-required]
        scores = parts(report, role).get("test", {})
        for name, value in {**scores, **kept, **model.get("figures", {})}.items():
            yield f"{role}_{name}", value


def _below(folder: Path, name: str) -> list[Path]:
    """Folders that hold a file of that name: this one, or those at most DEPTH below, in order."""
    return sorted(path.parent for depth in range(DEPTH + 1) for path in folder.glob("*/" * depth + name))


def _of_sweep(folder: Path) -> list[Path]:
    """The runs that a sweep's results name."""
    runs: list[Path] = []
    settings = content_of(folder / "results.json")
    for setting in settings if isinstance(settings, list) else ():
        for run in setting.get("runs", ()):
            place = run_folder(folder.parent.parent, run.get("folder", ""))
            runs += [place] if (place / NAME).is_file() else []
    return runs


def _pattern(values: Sequence[Any]) -> tuple[int, ...]:
    """Which of the values are equal: (0, 1, 0) for the first and the last."""
    seen: dict[str, int] = {}
    return tuple(seen.setdefault(repr(value), len(seen)) for value in values)


COLUMNS: tuple[Column, ...] = (
    ("data set", lambda run: run.get("dataset", ABSENT)),
    ("method", lambda run: run.get("method", ABSENT)),
    ("teacher", lambda run: run.get("teacher", ABSENT)),
    ("student", lambda run: run.get("student", ABSENT)),
    ("seed", lambda run: str(run.get("seed", ABSENT))),
    ("parameters", lambda run: _shown(run, "params", count)),
    ("teacher %", lambda run: _shown(run, "teacher_top1", percent)),
    ("student %", lambda run: _shown(run, "student_top1", percent)),
    ("control %", lambda run: _shown(run, "control_top1", percent)),
    ("gain", lambda run: _shown(run, "gain_top1", signed)),
    ("95 % interval", lambda run: _interval(run)),
    ("verdict", lambda run: _verdict(run)),
)
WORDS = ("data set", "method", "teacher", "student", "verdict")
NARROW = ("parameters", "verdict")
"""Left out where the text would be wider than the terminal."""

NARROWER = ("95 % interval", "seed", "teacher %", "control %")
"""Left out besides, one after the other, in terminals that are too narrow for the figures."""


def _text(records: Sequence[Record], differs: Sequence[str], width: int) -> str:
    """All columns, or without NARROW where that is too wide; what all runs share is said above instead of
    in a column."""
    columns = _columns(differs)
    many = len(records) > 1 or _least(records, columns, NARROW) > width
    shared = [name for name, _ in COLUMNS[:WHO] if many and _shared(records, name)]
    columns = [column for column in columns if column[0] not in shared]
    table = _table(records, columns)
    if max(map(len, plain(table, 10_000).splitlines())) > width:
        left_out = _left_out(records, columns, width)
        table = _table(records, [column for column in columns if column[0] not in left_out])
    said = [f"{name} {dict(COLUMNS)[name](records[0])}" for name in shared]
    return plain("; ".join(["top-1 on test", *said]), width) + "\n" + plain(table, width)


def _left_out(records: Sequence[Record], columns: Sequence[Column], width: int) -> Sequence[str]:
    """NARROW, and of NARROWER what it takes until each word and figure of the others fits in its column."""
    for some in range(len(NARROWER)):
        if _least(records, columns, (*NARROW, *NARROWER[:some])) <= width:
            return (*NARROW, *NARROWER[:some])
    return (*NARROW, *NARROWER)


def _least(records: Sequence[Record], columns: Sequence[Column], without: Sequence[str]) -> int:
    """The least width of the table without some columns."""
    return sum(_longest(records, column) + 2 for column in columns if column[0] not in without) - 2


def _longest(records: Sequence[Record], column: Column) -> int:
    """The length of the longest figure or word of a column; names may be folded."""
    name, cell = column
    heading = max(map(len, re.split(r"[ .]", name)))
    return heading if name in WORDS else max(heading, *(len(w) for r in records for w in cell(r).split()))


def _columns(differs: Sequence[str]) -> list[Column]:
    """The columns, with those of the differing keys between who and how well."""
    extra: list[Column] = [
        (key_name(key), lambda run, key=key: value_name(run.get(key)))  # type: ignore[misc]
        for key in differs
    ]
    return [*COLUMNS[:WHO], *extra, *COLUMNS[WHO:]]


def _shared(records: Sequence[Record], name: str) -> bool:
    return len({dict(COLUMNS)[name](run) for run in records}) == 1


def _table(records: Sequence[Record], columns: Sequence[Column]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        heading = column[0].replace(".", ".\n")  # the names of keys are long; a line for each part
        justify: Literal["left", "right"] = "left" if column[0] in WORDS else "right"
        table.add_column(heading, justify=justify, overflow="fold", min_width=_longest(records, column))
    for run in records:
        table.add_row(*(cell(run) for _, cell in columns))
    return table


def _markdown(records: Sequence[Record], differs: Sequence[str]) -> str:
    columns = _columns(differs)
    body = [[run["label"], *(cell(run) for _, cell in columns)] for run in records]
    return "\n".join(pipe_table(["run", *(name for name, _ in columns)], body, left=5)) + "\n"


def _csv(records: Sequence[Record]) -> str:
    names = list(dict.fromkeys(name for run in records for name in run))
    sink = StringIO()
    writer = csv.DictWriter(sink, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return sink.getvalue()


def _shown(run: Record, key: str, show: Callable[[float], str]) -> str:
    return show(run[key]) if key in run else ABSENT


def _verdict(run: Record) -> str:
    word = SHORT.get(run.get("verdict", ""), ABSENT)
    return word if "at_chance" not in run or word == SHORT["worse"] else "at chance"


def _interval(run: Record) -> str:
    return f"{signed(run['gain_low'])} to {signed(run['gain_high'])}" if "gain_low" in run else ABSENT
