"""`kdrun report DIR...`: the finished runs of some folders in one table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

from kdrun.config.choices import REPEATS
from kdrun.errors import KdrunError
from kdrun.garbage import uncollected
from kdrun.nested import leaves
from kdrun.report.blocks import Table, as_markdown
from kdrun.report.find_runs import runs_in
from kdrun.report.grid import folded
from kdrun.report.naming import said_of, short_id
from kdrun.report.placing import MODEL
from kdrun.report.read import read
from kdrun.report.runs_mean import means
from kdrun.report.runs_order import by_key, latest
from kdrun.report.runs_text import MEAN_TITLE, TITLE, Cell, block, cells, pair
from kdrun.report.schema import Model, Report, data_name, is_bound, parts, roles, strongest, top1
from kdrun.report.sweeps import value_name
from kdrun.report.verdict import at_chance

FORMATS = ("text", "md", "csv", "json", "tex")

Record = dict[str, Any]

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
    "engine",
    "runtime",
    "packages",
    "diagnostics",
    "evaluation",
)
"""Keys (with all below them) that do not tell experiments apart."""

SHOWN = ("dataset", "method", "teacher", "student", "seed")


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
    measured; tex has means over repeats. sort: a figure or a word to sort by (`runs_order.by_key`). last: how
    many of the latest runs are shown. warn: gets a line for each damaged report, which is left out. Raises
    KdrunError for a folder without a finished run, for another format, and for a wrong sort or last.
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
        return _tex(records, configs)
    if seeds == "mean":
        return _means(records, configs, format, width, sort)
    if format == "text":
        blocks = [
            _block([records[i] for i in own], [configs[i] for i in own], width) for own in _by_pair(records)
        ]
        return _titled(TITLE, blocks, width)
    values = differing(records, configs)
    whole = [_exact(_with(*both)) for both in zip(records, values, strict=True)]
    return _written(format, whole, cells(list(values[0])))


def _block(records: Sequence[Record], configs: Sequence[Record], width: int) -> str:
    """The runs of one data set and pair."""
    values = differing(records, configs)
    return block([_with(*both) for both in zip(records, values, strict=True)], list(values[0]), width)


def _tex(records: Sequence[Record], configs: Sequence[Record]) -> str:
    from kdrun.report.runs_tex import tex

    values = differing(records, configs, None)
    repeated = [{**repeats(config), **own} for config, own in zip(configs, values, strict=True)]
    return tex([_with(*both) for both in zip(records, repeated, strict=True)], list(values[0]))


def _means(records: Sequence[Record], configs: Sequence[Record], format: str, width: int, sort: str) -> str:
    settings, told = means(records, differing(records, configs, None))
    if sort:
        settings = [settings[i] for i in by_key(settings, sort)]
    told = told[:DIFFERENCES]
    if format == "text":
        blocks = [block([settings[i] for i in own], told, width, mean=True) for own in _by_pair(settings)]
        return _titled(MEAN_TITLE, blocks, width)
    return _written(format, list(map(_exact, settings)), cells(told, mean=True))


def _titled(title: str, blocks: Sequence[str], width: int) -> str:
    return "\n".join(["".join(f"{line}\n" for line in folded(title, width)), *blocks])


def _by_pair(records: Sequence[Record]) -> list[list[int]]:
    """The places of the records of each data set and pair, in the order of the records."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, run in enumerate(records):
        groups.setdefault(pair(run), []).append(place)
    return list(groups.values())


def _written(format: str, records: Sequence[Record], columns: Sequence[Cell]) -> str:
    if format == "json":
        return json.dumps(records, indent=1) + "\n"
    return _csv(records) if format == "csv" else "\n".join(as_markdown([_table(records, columns)])) + "\n"


def table(runs: Sequence[tuple[Path, Report]]) -> Table:
    """A row for each run, in their order."""
    records = [record(*run) for run in runs]
    values = differing(records, [report.get("config", {}) for _, report in runs])
    told = [_with(*both) for both in zip(records, values, strict=True)]
    return _table(told, cells(list(values[0]) if values else []))


def reports_of(folders: Sequence[Path], warn: Callable[[str], None]) -> list[tuple[Path, Report]]:
    """The finished runs of some folders with their reports.

    A damaged report is left out, and `warn` gets a line. Its error is raised if the run itself was named, or
    if no other run is left.
    """
    runs, damaged = [], None
    for run in all_runs(folders):
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


def all_runs(folders: Sequence[Path]) -> list[Path]:
    """The finished runs of some folders, each once. Raises KdrunError for a folder without one."""
    runs: dict[tuple[int, int], Path] = {}
    for run in (run for folder in folders for run in runs_in(folder)):
        place = run.stat()
        runs[place.st_dev, place.st_ino] = run
    return list(runs.values())


def differing(
    records: Sequence[Record], configs: Sequence[Record], most: int | None = DIFFERENCES
) -> list[Record]:
    """For each run, the values of the keys that tell the runs apart and that no column shows.

    At most `most` keys, the shortest first. Of keys that change together (alpha, and the weights that follow
    from it) only the first is shown. A key of a model or a method (arguments, recipe, terms) is left out if
    its value follows from the name, or is that of the run's key of the same word (a term's temperature).
    """
    every = [key for key in dict.fromkeys(chain(*configs)) if key not in UNTOLD]
    parts = [key for key in every if any(own.get(key) != configs[0].get(key) for own in configs)]
    values = [dict(leaves({key: own[key] for key in parts if key in own})) for own in configs]
    shown = {name: _pattern([run.get(name) for run in records]) for name in SHOWN}
    patterns, telling = set(shown.values()), list[str]()
    for key in sorted(dict.fromkeys(chain(*values)), key=lambda key: key.count(".")):
        pattern = _pattern([own.get(key) for own in values])
        source = shown.get(_chosen_by(key), ())
        follows = bool(source) and len({*zip(source, pattern, strict=True)}) == len({*source})
        if max(pattern) > 0 and pattern not in patterns and not follows and not _repeated(key, values):
            patterns.add(pattern)
            telling.append(key)
    return [{key: own.get(key) for key in telling[:most]} for own in values]


def _repeated(key: str, values: Sequence[Record]) -> bool:
    """Whether a nested key has the value of the run's key of the same word wherever it has one."""
    above, _, word = key.rpartition(".")
    return bool(above) and all(own.get(key) in (None, own.get(word)) for own in values)


def _chosen_by(key: str) -> str:
    """The column whose value usually decides a nested key: `student` for student.args.depth and
    recipe.student.lr, `method` for loss.soft.weight; empty for other keys.
    """
    first, *rest = key.removeprefix("recipe.").split(".")
    return {"loss": "method", "phase_one": "method"}.get(first, first) if rest else ""


def _exact(record: Record) -> Record:
    """The record with 12 digits of each figure: 72.9 for 72.89999999999999."""
    return {
        key: float(f"{value:.12g}") if isinstance(value, float) else value for key, value in record.items()
    }


def _with(record: Record, values: Record) -> Record:
    """The record, with values of the configuration after the fields that say which run it is."""
    names = list(record)
    first = {name: record[name] for name in names[: names.index("headline") + 1]}
    return first | {key: value for key, value in values.items() if value is not None} | record


def repeats(config: Record) -> Record:
    """The values of the keys that repeat a run, by key."""
    values = dict(leaves(config))
    return {key: values[key] for key in REPEATS[1:] if key in values}


def record(folder: Path, report: Report) -> Record:
    """A run's settings and figures by name; what was not measured is absent."""
    comparison = report.get("comparison", {})
    names = {role: report["models"].get(role, Model()).get("name") for role in ("teacher", "student")}
    shown = {"teacher": "teacher", "student": "student", "control": strongest(report)}
    scores = {f"{name}_top1": top1(report, role, "test") for name, role in shown.items()}
    low, high = comparison.get("gain_interval", (None, None))
    known = {
        "label": report["label"],
        "folder": str(folder),
        "id": short_id(folder) or None,
        "name": said_of(folder).get("name"),
        "created": report.get("created"),
        "dataset": data_name(report) or None,
        "method": report.get("distillation", {}).get("method"),
        "seed": report["seeds"].get("run"),
        **names,
        "params": report["models"]["student"].get("params"),
        "headline": report["headline"],
        **scores,
        "gain_over": comparison.get("control"),
        "gain_top1": comparison.get("gain_top1"),
        "gain_low": low,
        "gain_high": high,
        "mcnemar_p": comparison.get("mcnemar_p"),
        "verdict": comparison.get("verdict"),
        "at_chance": at_chance(report) or None,
        "upper_bound": is_bound(report) or None,
    }
    known |= {name: value for name, value in _figures(report) if name not in known}
    return {key: value for key, value in known.items() if value is not None}


def _figures(report: Report) -> Iterator[tuple[str, float]]:
    """Every figure of a role on test under the headline (`student_nll`), and those that do not depend on
    images (`student_macs`).
    """
    for role in roles(report):
        model = report["models"][role]
        kept = {name: model[name] for name in MODEL if name in model}  # type: ignore[literal-required]
        scores = parts(report, role).get("test", {})
        for name, value in {**scores, **kept, **model.get("figures", {})}.items():
            yield f"{role}_{name}", value


def _pattern(values: Sequence[Any]) -> tuple[int, ...]:
    """Which of the values are equal: (0, 1, 0) for the first and the last. `2` and `2.0` are equal."""
    seen: dict[str, int] = {}
    return tuple(seen.setdefault(value_name(value), len(seen)) for value in values)


def _table(records: Sequence[Record], columns: Sequence[Cell]) -> Table:
    named: list[Cell] = [("run", _called)] if records and "label" in records[0] else []
    columns = [*named, *columns]
    body = [[cell(run) for _, cell in columns] for run in records]
    return Table([name for name, _ in columns], body, left=len(named) + 4)


def _called(run: Record) -> str:
    """As commands take it: a name that was given, else the short id."""
    return str(run.get("name") or run.get("id") or run["label"])


def _csv(records: Sequence[Record]) -> str:
    names = list(dict.fromkeys(name for run in records for name in run))
    sink = StringIO()
    writer = csv.DictWriter(sink, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return sink.getvalue()
