"""Accuracy against latency and size, for sweeps over different student models."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Literal, NamedTuple

from kdrun.figures import percent, plural, short, three_digits
from kdrun.report import sweeps
from kdrun.report.schema import Latency, ModelReport, PartName, Report
from kdrun.report.statistics import Spread
from kdrun.report.sweeps import Setting

Cost = Literal["latency", "size"]
COSTS: tuple[Cost, ...] = ("latency", "size")

WITHIN = 1.0
"""A student counts as good as its teacher if it is at most so many points below."""


class Point(NamedTuple):
    """The student of a setting: means over its finished jobs.

    position: of the setting. accuracy, control, teacher: top-1 in percent on one part. latency: ms for one
    batch. size: number of parameters.
    """

    position: int
    accuracy: Spread
    control: Spread | None
    teacher: Spread | None
    latency: float | None
    size: float | None

    def cost(self, cost: Cost) -> float | None:
        return self.latency if cost == "latency" else self.size


def models_differ(settings: Sequence[Setting]) -> bool:
    """Whether the settings have students of more than one size or name."""
    students = [report["models"]["student"] for setting in settings for report in setting.reports]
    return len({(student.get("name"), student.get("params")) for student in students}) > 1


def points(settings: Sequence[Setting], part: PartName) -> list[Point]:
    """The settings whose student was measured on the part, in their order."""
    measured = []
    for position, setting in enumerate(settings):
        accuracy, control, teacher = (
            sweeps.spread(setting, what, part) for what in ("student", "control", "teacher")
        )
        if accuracy is not None:
            mean = [mean_cost(setting, "student", cost) for cost in COSTS]
            measured.append(Point(position, accuracy, control, teacher, *mean))
    return measured


def teachers(settings: Sequence[Setting], points: Sequence[Point], cost: Cost) -> list[tuple[float, float]]:
    """Cost and top-1 of each teacher that was measured, means over the settings that it serves."""
    own: dict[tuple[str | None, float | None], list[tuple[float, float]]] = {}
    for point in points:
        setting = settings[point.position]
        value = mean_cost(setting, "teacher", cost)
        if point.teacher is not None and value is not None:
            names = {report["models"]["teacher"].get("name") for report in setting.reports}
            key = (min(map(str, names)), mean_cost(setting, "teacher", "size"))
            own.setdefault(key, []).append((value, point.teacher.mean))
    return [(fmean(x for x, _ in each), fmean(y for _, y in each)) for each in own.values()]


def mean_cost(setting: Setting, role: str, cost: Cost) -> float | None:
    """A role's mean cost over the finished jobs of a setting; None if it was not measured."""
    costs = (_cost(report, role, cost) for report in setting.reports)
    values = [value for value in costs if value is not None]
    return fmean(values) if values else None


def latency(report: Report, role: str) -> Latency | None:
    """The shortest latency of the smallest batch, on the run's device if it was measured there; None if none
    was measured.
    """
    rows = report["models"].get(role, ModelReport()).get("latency", [])
    device = report.get("environment", {}).get("device", "cpu").partition(":")[0]
    own = [row for row in rows if row["device"] == device] or rows
    return min(own, key=lambda row: (row["batch"], row["p50_ms"]), default=None)


def measured_on(settings: Sequence[Setting]) -> str:
    """How the latencies were measured: `batch 1 on cpu, 1 thread`; several if the jobs differ."""
    rows = (latency(report, "student") for setting in settings for report in setting.reports)
    ways = dict.fromkeys(
        f"batch {row['batch']} on {row['device']}, {_mode(row)}{plural(row['threads'], 'thread')}"
        for row in rows
        if row is not None
    )
    return " or ".join(ways)


def costs(points: Sequence[Point]) -> list[Cost]:
    """The costs that were measured of some student."""
    return [cost for cost in COSTS if any(point.cost(cost) is not None for point in points)]


def front(points: Sequence[Point], cost: Cost) -> frozenset[int]:
    """Positions of the students on the Pareto front: no other is at least as good in accuracy and cost, and
    better in one of the two.
    """
    known = [(p.position, p.accuracy.mean, c) for p in points if (c := p.cost(cost)) is not None]
    return frozenset(
        position
        for position, accuracy, cost in known
        if not any(a >= accuracy and c <= cost and (a > accuracy or c < cost) for _, a, c in known)
    )


def fronts(points: Sequence[Point]) -> dict[int, str]:
    """The fronts that a student is on, by position: `both`, `latency`, `size`; others are left out."""
    on = {cost: front(points, cost) for cost in costs(points)}
    words: dict[int, str] = {}
    for point in points:
        names = [cost for cost, positions in on.items() if point.position in positions]
        if names:
            words[point.position] = "both" if len(names) > 1 else names[0]
    return words


def smallest(settings: Sequence[Setting], part: PartName, names: Sequence[str]) -> str | None:
    """One sentence: the smallest student within WITHIN points of its teacher, or that none is.

    Chosen on the part; if that is validation, the figures on test follow. names: of the settings. None if no
    teacher was measured.
    """
    known = [p for p in points(settings, part) if p.teacher is not None and p.size is not None]
    if not known:
        return None
    good = [point for point in known if _behind(point) <= WITHIN]
    if not good:
        near = min(known, key=_behind)
        return (
            f"No student is within {WITHIN:g} point of the teacher on {part}: the nearest is "
            f"{names[near.position]}, {percent(_behind(near))} points below"
        )
    best = min(good, key=lambda point: (point.size or 0.0, -point.accuracy.mean))
    setting, size = settings[best.position], best.size or 0.0
    whole = mean_cost(setting, "teacher", "size")
    share = f", {percent(100 * size / whole)} % of the teacher's" if whole else ""
    shown = [f"{short(size)} parameters{share}"]
    shown += [f"{three_digits(best.latency)} ms"] if best.latency is not None else []
    shown += [f"{_against(setting, p)} on {p}" for p in dict.fromkeys((part, "test"))]
    return (
        f"The smallest student within {WITHIN:g} point of the teacher on {part} is {names[best.position]} "
        f"({', '.join(shown)})"
    )


def _behind(point: Point) -> float:
    return (point.teacher.mean if point.teacher else 0.0) - point.accuracy.mean


def _against(setting: Setting, part: PartName) -> str:
    """`90.1 % against 90.8 %`."""
    both = [sweeps.spread(setting, what, part) for what in ("student", "teacher")]
    return " against ".join(f"{percent(one.mean)} %" if one else "no figure" for one in both)


def _cost(report: Report, role: str, cost: Cost) -> float | None:
    if cost == "size":
        return report["models"].get(role, ModelReport()).get("params")
    row = latency(report, role)
    return None if row is None else row["p50_ms"]


def _mode(row: Latency) -> str:
    return "" if row["mode"] == "eager" else f"{row['mode']}, "
