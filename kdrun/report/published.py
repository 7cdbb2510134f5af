"""A published table beside the results of others and ours: published | others | ours | difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kdrun.config.table import BASELINES, Place, PublishedTable, StatedNumber
from kdrun.figures import plural
from kdrun.nested import known
from kdrun.report.schema import ModelReport, Report, Scores, parts
from kdrun.report.statistics import RankMark, Spread, marks, spread

NEAR = 2
"""A published figure is marked if it lies within this many standard deviations of our seeds."""


class Done(NamedTuple):
    """A cell's run. report: None if it failed."""

    pair: str
    method: str
    seed: int
    report: Report | None


class MethodCells(NamedTuple):
    """A method's row of a pair. values: ours by seed (a teacher's by its own seed). lacks: why kdrun cannot
    run it. unchecked: whether there is a published figure that nobody checked against a source; it is not
    shown.

    difference: ours minus published. near: whether it is within NEAR standard deviations of our seeds; None
    if nothing is published, or with fewer than two seeds.
    """

    pair: str
    method: str
    published: StatedNumber | None
    others: tuple[StatedNumber, ...]
    values: Mapping[int, float]
    mark: RankMark | None = None
    lacks: str = ""
    unchecked: bool = False

    @property
    def ours(self) -> Spread | None:
        return spread(list(self.values.values())) if self.values else None

    @property
    def difference(self) -> float | None:
        return self.ours.mean - self.published.value if self.ours and self.published else None

    @property
    def near(self) -> bool | None:
        if self.difference is None or self.ours is None or self.ours.std is None:
            return None
        return abs(self.difference) <= NEAR * self.ours.std


class TablePage(NamedTuple):
    """What is shown of a table: its cells pair by pair. reduced: overrides that make ours a different
    experiment from the published one, so that no difference is shown. made: where and when ours were made.
    """

    table: PublishedTable
    cells: tuple[MethodCells, ...]
    reduced: tuple[str, ...]
    made: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[str]:
        return list(dict.fromkeys(cell.pair for cell in self.cells))

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(cell.method for cell in self.cells))


def page(
    table: PublishedTable,
    done: Iterable[Done],
    pairs: Sequence[str] = (),
    methods: Sequence[str] = (),
    reduced: Sequence[str] = (),
) -> TablePage:
    """The cells of these pairs and methods, or of all, with their runs; baselines are always shown.

    A cell is shown if it has any figure: published, of others, or ours. reduced: `changed` of what the user
    typed (`kdrun.config.table`).
    """
    runs = list(done)
    shown = table.rows(methods)
    cells = [cell for pair in pairs or table.pairs for cell in _cells(table, runs, pair, shown)]
    here = [run.report for run in runs if run.pair in (pairs or table.pairs) and run.method in shown]
    return TablePage(table, tuple(cells), tuple(reduced), tuple(made_on([each for each in here if each])))


def made_on(reports: Sequence[Report]) -> Iterator[str]:
    """`3 runs of 2026-01-02 to 2026-01-04: kdrun 0.2.0, torch 2.14.1, Intel Xeon, 2 threads, fp32`, for each
    machine and version.
    """
    days: dict[str, list[str]] = {}
    for report in reports:
        place = report.get("environment", {})
        on_cpu = place.get("device", "cpu") == "cpu"
        parts = [
            f"kdrun {report['kdrun']}",
            f"torch {place.get('torch', '').partition('+')[0]}",
            place.get("cpu", "") if on_cpu else place["device"],
            plural(place["threads"], "thread") if on_cpu and "threads" in place else "",
            place.get("precision", ""),
        ]
        days.setdefault(", ".join(filter(None, parts)), []).append(report["created"].partition("T")[0])
    for about, dates in days.items():
        when = min(dates) if min(dates) == max(dates) else f"{min(dates)} to {max(dates)}"
        yield f"{plural(len(dates), 'run')} of {when}: {about}"


def figure(table: PublishedTable, report: Report, role: str, name: str = "") -> float | None:
    """What the table shows of a role: accuracy or error in percent, or how many test images it has wrong.

    name: of an evaluator's figure, which stands for top-1; one that is no percentage is shown as it is.
    """
    scores = parts(report, role).get("test", Scores())
    accuracy, images = scores.get("top1"), scores.get("n")
    if name:
        value = report["models"].get(role, ModelReport()).get("figures", {}).get(name)
        if not isinstance(value, (int, float)) or report.get("units", {}).get(name) != "%":
            return value if isinstance(value, (int, float)) else None
        accuracy = value
    if accuracy is None or table.figure == "accuracy":
        return accuracy
    error = 100 - accuracy
    if table.figure == "error":
        return error
    return None if images is None else float(round(error / 100 * images))


def _cells(
    table: PublishedTable, runs: Sequence[Done], pair: str, methods: Sequence[str]
) -> Iterator[MethodCells]:
    ours = {method: _values(table, runs, pair, method) for method in methods}
    sign = 1 if table.figure == "accuracy" else -1
    marked = marks(
        {
            method: {seed: sign * value for seed, value in values.items()}
            for method, values in ours.items()
            if values and method not in BASELINES
        }
    )
    for method, values in ours.items():
        place = (pair, method)
        published, others = table.published.get(place), table.others.get(place, ())
        unchecked = place in table.unverified
        if published or others or values or unchecked:
            lacks = table.lacks(*place)
            yield MethodCells(pair, method, published, others, values, marked.get(method), lacks, unchecked)


def _values(table: PublishedTable, runs: Sequence[Done], pair: str, method: str) -> dict[int, float]:
    """Our figures by seed. The student alone is the control of a method that uses the table's own recipe."""
    by_seed: dict[int, float] = {}
    for run in runs:
        if run.pair != pair or run.report is None:
            continue
        value, seed = None, run.seed
        if method == "teacher":
            value, seed = figure(table, run.report, "teacher"), run.report["seeds"].get("teacher", 0)
        elif method == "student" and table.baseline(pair, run.method):
            value = figure(table, run.report, "control")
        elif (table.methods[method].of or method) == run.method:
            value = figure(table, run.report, "student", table.methods[method].figure)
        if value is not None:
            by_seed.setdefault(seed, value)
    return by_seed


def differences(shown: TablePage) -> list[str]:
    """Every difference between the published protocol and ours: of the table, of shown pairs and methods."""
    table, own = shown.table, dict[str, list[str]]()
    for pair in shown.pairs:
        for text in table.pairs[pair].differences:
            own.setdefault(text, []).append(pair)
    for method in shown.methods:
        for text in table.methods[method].differences:
            own.setdefault(text, []).append(method)
    return [*table.differences, *(f"{', '.join(names)}: {text}" for text, names in own.items())]


def unknown(shown: TablePage) -> list[Place]:
    """Cells whose published figure is not shown, because nobody checked it against a source."""
    return [(cell.pair, cell.method) for cell in shown.cells if cell.unchecked]


def missing(shown: TablePage) -> list[Place]:
    """Cells that can be run and have no run."""
    return [
        (cell.pair, cell.method)
        for cell in shown.cells
        if not cell.values and not cell.lacks and cell.method in shown.table.own_runs
    ]


def records(shown: TablePage) -> list[dict[str, Any]]:
    """A record for each cell, with unrounded figures; unknown ones are absent."""
    return [_record(shown, cell) for cell in shown.cells]


def _record(shown: TablePage, cell: MethodCells) -> dict[str, Any]:
    record: dict[str, Any] = {"table": shown.table.name, "pair": cell.pair, "method": cell.method}
    record["figure"] = shown.table.figure
    if cell.published:
        record["published"] = _value(cell.published)
    if cell.others:
        record["others"] = [{"who": value.who, **_value(value)} for value in cell.others]
    if cell.ours:
        seeds = {str(seed): value for seed, value in cell.values.items()}
        record["ours"] = {**cell.ours.record(), "by_seed": seeds}
        record |= (
            {"reduced": list(shown.reduced)}
            if shown.reduced
            else known({"difference": cell.difference, "within_two_std": cell.near})
        )
    return record | known(
        {"mark": cell.mark, "lacks": cell.lacks or None, "unchecked": cell.unchecked or None}
    )


def _value(value: StatedNumber) -> dict[str, Any]:
    about = {"value": value.value, "std": value.std, "runs": value.runs, "about": value.about or None}
    source = {"source": value.source.where, "quoted": value.source.quoted or None}
    spread_source = value.std_source.where if value.std_source else None
    return known({**about, **source, "std_source": spread_source})
