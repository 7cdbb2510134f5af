"""What curves.png and the HTML page draw: panels of lines over epochs, from the rows of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kdrun.config.choices import is_control, shown_beside
from kdrun.nested import grouped

Rows = Sequence[Mapping[str, Any]]

LONG = 4
"""A training that has so many times the epochs of every other makes the axis of epochs logarithmic."""

WIDE = 20
"""Positive values that span more than this factor make an axis logarithmic."""


class Curve(NamedTuple):
    """A value for each epoch. role: empty for a term of the student. name: in the legend. marked:
    the position of the headline's epoch. dashed: it may hide the line below it.
    """

    role: str
    name: str
    epochs: list[int]
    values: list[float]
    marked: int | None = None
    dashed: bool = False


class Panel(NamedTuple):
    """Lines with a unit. bottom: of the axis. wide: the axis may be logarithmic."""

    title: str
    unit: str
    lines: list[Curve]
    bottom: float | None = None
    wide: bool = False

    def is_log(self) -> bool:
        """Whether its values need a logarithmic axis."""
        values = [value for line in self.lines for value in line.values if abs(value) < float("inf")]
        return self.wide and bool(values) and min(values) > 0 and max(values) > WIDE * min(values)


def panels(rows: Rows, headlines: Mapping[str, int]) -> list[Panel]:
    """The panels for which there are figures. headlines: by model, the epoch whose weights the report is
    about.
    """
    accuracy = _measured(rows, "top1", headlines, lambda value: f"{value:.1f}")
    every = [
        Panel("top-1 on validation", "%", accuracy, _floor(accuracy)),
        Panel(
            "NLL on validation",
            "nats",
            _measured(rows, "nll", headlines, lambda value: f"{value:.3f}"),
            wide=True,
        ),
        Panel("training loss (each its own sum of terms)", "", _by_role(rows, "loss"), wide=True),
        Panel("terms of the student", "", _terms(rows), wide=True),
        Panel("learning rate", "", _by_role(rows, "lr", dashed=True), 0.0),
    ]
    return [panel for panel in every if panel.lines]


def one_is_long(rows: Rows) -> bool:
    """Whether one training is so much longer than the others that these would be a stroke at the left."""
    ends = sorted(epochs[-1]["epoch"] for epochs in _by_stage(rows).values())
    return len(ends) > 1 and ends[-1] > LONG * ends[-2]


def _measured(
    rows: Rows, figure: str, headlines: Mapping[str, int], text: Callable[[float], str]
) -> list[Curve]:
    """A figure on validation, with the value at the epoch of the headline, or at the last."""
    lines, stages = [], _by_stage(rows)
    for role, epochs in stages.items():
        measured = [row for row in epochs if figure in (row.get("validation") or {})]
        if not measured:
            continue
        values = [row["validation"][figure] for row in measured]
        at = next((i for i, row in enumerate(measured) if row["epoch"] == headlines.get(role)), None)
        last = -1 if at is None else at
        name = f"{shown_beside(role, stages)} {text(values[last])}, epoch {measured[last]['epoch']}"
        lines.append(Curve(role, name, [row["epoch"] for row in measured], values, at))
    return lines


def _by_role(rows: Rows, key: str, dashed: bool = False) -> list[Curve]:
    """A value of each training. dashed: lines of controls; the control's recipe is the student's."""
    lines, stages = [], _by_stage(rows)
    for role, epochs in stages.items():
        if known := {row["epoch"]: row[key] for row in epochs if key in row}:
            name = shown_beside(role, stages)
            dash = dashed and is_control(role)
            lines.append(Curve(role, name, list(known), list(known.values()), dashed=dash))
    return lines


def _terms(rows: Rows) -> list[Curve]:
    student, lines = _by_stage(rows).get("student", []), []
    for name in dict.fromkeys(name for row in student for name in row.get("terms", {})):
        known = {row["epoch"]: row["terms"][name] for row in student if name in row.get("terms", {})}
        lines.append(Curve("", name, list(known), list(known.values())))
    return lines


def _floor(lines: Iterable[Curve]) -> float | None:
    """Without the first fifth of the epochs: they would flatten what tells the curves apart."""
    values = [value for line in lines for value in line.values[len(line.values) // 5 :]]
    return max(0.0, min(values) - 0.1 * (max(values) - min(values)) - 1) if values else None


def _by_stage(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    return grouped(rows, lambda row: str(row["stage"]))
