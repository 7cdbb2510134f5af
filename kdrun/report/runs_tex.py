"""The table of finished runs for LaTeX: means over repeats, by data set and pair of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdrun.config.choices import REPEATS
from kdrun.figures import ABSENT
from kdrun.report.latex import Figure, Row, latex
from kdrun.report.run_records import SORTS
from kdrun.report.statistics import Mark, marks_of_most, spread
from kdrun.report.sweeps import key_name, value_name

Record = Mapping[str, Any]

COLUMNS = {name: SORTS[name] for name in ("teacher", "student", "control", "gain")}

CAPTION = "Top-1 on test in %, gain over the control in points; mean +- std over seeds."
MARKED = " Bold: the highest mean; underlined: ties with it."


def tex(records: Sequence[Record], differs: Sequence[str] = ()) -> str:
    """A heading for each data set and pair, below it a line for each method.

    differs: further keys that tell runs apart. Apart from REPEATS, each value of such a key that differs
    within a method and a pair has a line of its own. The best student and its ties are marked if there are
    several seeds (`statistics.marks`).
    """
    keys = [key for key in differs if key not in REPEATS]
    alike: dict[tuple[str, str], list[Record]] = {}
    for run in records:
        alike.setdefault((_place(run), str(run.get("method", ABSENT))), []).append(run)
    places: dict[str, dict[str, list[Record]]] = {}
    for (place, _), runs in alike.items():
        own = [key for key in keys if len({value_name(run.get(key)) for run in runs}) > 1]
        for run in runs:
            places.setdefault(place, {}).setdefault(_line(run, own), []).append(run)
    rows, marked = [], False
    for place, lines in places.items():
        own_marks = _marks(lines)
        marked = marked or bool(own_marks)
        rows.append(Row(place))
        rows += [_row(line, runs, own_marks.get(line)) for line, runs in lines.items()]
    return latex([*COLUMNS, "n"], rows, CAPTION + (MARKED if marked else ""), corner="method", digits=1)


def _place(run: Record) -> str:
    """`digits_few: cnn_digits -> cnn_digits_small`."""
    return f"{run.get('dataset', ABSENT)}: {run.get('teacher', ABSENT)} -> {run.get('student', ABSENT)}"


def _line(run: Record, keys: Sequence[str]) -> str:
    """`kd, temperature 4`."""
    return ", ".join(
        [str(run.get("method", ABSENT)), *(f"{key_name(k)} {value_name(run.get(k))}" for k in keys)]
    )


def _row(name: str, runs: Sequence[Record], mark: Mark | None) -> Row:
    cells: list[Figure | str | None] = []
    for column, field in COLUMNS.items():
        values = [run[field] for run in runs if field in run]
        one = spread(values) if values else None
        own = mark if column == "student" else None
        cells.append(None if one is None else Figure(one.mean, one.std, own, gain=column == "gain"))
    return Row(name, [*cells, str(len(runs))])


def _marks(lines: Mapping[str, Sequence[Record]]) -> dict[str, Mark]:
    """The best student of a place and its ties, among the lines with the most seeds."""
    by_seed = {
        line: {_repeat(run): run["student_top1"] for run in runs if "student_top1" in run}
        for line, runs in lines.items()
    }
    return marks_of_most(by_seed)


def _repeat(run: Record) -> tuple[Any, ...]:
    return tuple(run.get(key) for key in REPEATS)
