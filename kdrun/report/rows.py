"""The figures of a run as rows of text, one column per role, for the table on the screen and report.md.

Figures that this file does not name come from the user's evaluators, and are shown with their own names and
units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from kdrun import figures
from kdrun.figures import ABSENT, count, duration, file_size, percent, plural, short, signed, three_digits
from kdrun.report import replacing
from kdrun.report.schema import (
    Latency,
    ModelReport,
    PartName,
    Report,
    Scores,
    called,
    gap_closed,
    parts,
    roles,
)

Show = Callable[[float], str]

QUALITY: tuple[tuple[str, str, PartName, str, Show], ...] = (
    ("top-1 test", "%", "test", "top1", percent),
    ("top-5 test", "%", "test", "top5", percent),
    ("top-1 validation", "%", "validation", "top1", percent),
    ("NLL test", "nats", "test", "nll", lambda value: f"{value:.3f}"),
    ("ECE test", "%", "test", "ece", percent),
)
CALIBRATED: tuple[tuple[str, str, PartName, str, Show], ...] = (
    ("temperature fitted on validation", "", "test", "temperature", three_digits),
    ("ECE test at that temperature", "%", "test", "ece_calibrated", percent),
)
COSTS = (("parameters", "params", count), ("MACs", "macs", short), ("weights", "bytes", file_size))
"""Label, unit, part, name and form of a row. CALIBRATED and the last of COSTS are too many for a screen."""
SCORES = {"n", *(name for _, _, _, name, _ in (*QUALITY, *CALIBRATED))}
"""Figures of a part that have rows of their own (`n` is in the caption)."""


class LatencyPlace(NamedTuple):
    """Where and how a latency was measured."""

    device: str
    mode: str
    threads: int
    batch: int


class FigureRow(NamedTuple):
    """A line of the table: what is measured, its unit, and a cell for each role, ABSENT without a figure."""

    label: str
    unit: str
    cells: tuple[str, ...]


def rows(report: Report, full: bool = False) -> list[FigureRow]:
    """All rows with a figure. full: also bytes, calibrated ECE, p95, images/s, too many for a screen."""
    every = [*_quality(report, full), *_other_scores(report, full), *_likeness(report), *_others(report)]
    every += [*_cost(report, full), *_latency(report, full), *_training(report)]
    return measured(every)


def measured(rows: Iterable[FigureRow]) -> list[FigureRow]:
    """The rows with a figure."""
    return [row for row in rows if set(row.cells) != {ABSENT}]


def _quality(report: Report, full: bool) -> Iterator[FigureRow]:
    for label, unit, part, name, show in (*QUALITY, *(CALIBRATED if full else ())):
        yield _row(label, unit, _scores(report, part, name), show)


def _other_scores(report: Report, full: bool) -> Iterator[FigureRow]:
    """Figures of a part that are not in SCORES: on test, and with `full` on validation too."""
    own: tuple[PartName, ...] = ("test", "validation") if full else ("test",)
    for part in own:
        for name in _names(parts(report, role).get(part, {}) for role in roles(report)):
            if name not in SCORES:
                yield _measured(report, f"{_words(name)} {part}", name, _scores(report, part, name))


def _likeness(report: Report) -> Iterator[FigureRow]:
    comparison = report.get("comparison", {})
    above = called(report, "teacher") if "teacher" in report["models"] else "teacher"
    who = comparison.get("learned_from", above)
    gap = f"gap to {above if above == 'teachers' else 'teacher'} closed"
    yield _of_student(report, f"agreement with {who}", "%", comparison.get("agreement"), percent)
    yield _of_student(report, f"KL from {who}", "nats", comparison.get("kl_teacher_student"), three_digits)
    yield _of_student(report, gap, "%", gap_closed(report), lambda value: f"{value:.0f}")
    against = comparison.get("reference")
    if against is not None and "verdict" in against:
        bounds = replacing.bounds_of(against)
        show = partial(signed, digits=replacing.digits(bounds, against["margin"]))
        yield _of_student(report, "against reference", "points", bounds.difference, show)
        yield _of_student(report, "at least (95 %)", "points", bounds.at_least, show)


def _others(report: Report) -> Iterator[FigureRow]:
    """Figures of evaluators that do not depend on images."""
    every = [report["models"][role].get("figures", {}) for role in roles(report)]
    for name in _names(every):
        yield _measured(report, _words(name), name, [own.get(name) for own in every])


def _cost(report: Report, full: bool) -> Iterator[FigureRow]:
    models: list[Any] = [report["models"][role] for role in roles(report)]
    for label, key, show in COSTS if full else COSTS[:2]:
        yield _row(label, "", [model.get(key) for model in models], show)


def _training(report: Report) -> Iterator[FigureRow]:
    models = [report["models"][role] for role in roles(report)]
    others = [len(model.get("companions", [])) or None for model in models]
    waited = [model.get("waited") for model in models]
    yield FigureRow("trained in", "", tuple(map(_trained, models)))
    yield _row("trained together with", "", others, partial(plural, noun="other"))
    yield _row("waited for images", "%", waited, lambda share: f"{100 * share:.0f}")


def _latency(report: Report, full: bool) -> Iterator[FigureRow]:
    places, of_roles = _places(report), [report["models"][role].get("latency", []) for role in roles(report)]
    for place in places:
        label = f"latency, batch {place.batch}" + (f", {_how(place)}" if _devices(places) > 1 else "")
        at = [next((row for row in own if place_of(row) == place), None) for own in of_roles]
        yield _row(label, "ms", [row and row["p50_ms"] for row in at], three_digits)
        if full:
            yield _row(f"{label}, p95", "ms", [row and row["p95_ms"] for row in at], three_digits)
            yield _row(f"{label}, images/s", "", [row and row["images_per_s"] for row in at], count)


def timed_on(report: Report) -> str:
    """`median latency on cpu, 1 thread` if all are of one device; else empty, and each row names its own."""
    places = _places(report)
    return f"median latency on {_how(places[0])}" if _devices(places) == 1 else ""


def _places(report: Report) -> list[LatencyPlace]:
    rows = (row for role in roles(report) for row in report["models"][role].get("latency", []))
    return list(dict.fromkeys(map(place_of, rows)))


def _devices(places: list[LatencyPlace]) -> int:
    return len({place[:3] for place in places})


def _how(place: LatencyPlace) -> str:
    return f"{place.device}, " + (plural(place.threads, "thread") if place.device == "cpu" else place.mode)


def _row(label: str, unit: str, values: Iterable[float | None], show: Show) -> FigureRow:
    """A row of a value for each role."""
    return FigureRow(label, unit, tuple(ABSENT if value is None else show(value) for value in values))


def _measured(report: Report, label: str, name: str, values: Iterable[float | None]) -> FigureRow:
    """The row of an evaluator's figure."""
    unit = report.get("units", {}).get(name, "")
    return _row(label, unit, values, partial(figures.measured, unit=unit))


def _of_student(report: Report, label: str, unit: str, value: float | None, show: Show) -> FigureRow:
    return _row(label, unit, [value if role == "student" else None for role in roles(report)], show)


def _scores(report: Report, part: PartName, name: str) -> list[Any]:
    return [parts(report, role).get(part, Scores()).get(name) for role in roles(report)]


def place_of(row: Latency) -> LatencyPlace:
    """The place of a latency."""
    return LatencyPlace(row["device"], row["mode"], row["threads"], row["batch"])


def _trained(model: ModelReport) -> str:
    """The training time, or the source of the weights. For a cached model: of the run that trained it."""
    source = model.get("source", "trained")
    took = duration(model["train_seconds"]) if "train_seconds" in model else ABSENT
    if source in ("trained", "peer"):
        return took
    return source if took == ABSENT or source != "cache" else f"{took} (cached)"


def _names(figures: Iterable[Mapping[str, object]]) -> list[str]:
    """The names of all figures, each once, in the order in which they come."""
    return list(dict.fromkeys(name for some in figures for name in some))


def _words(name: str) -> str:
    if name.startswith("top1_of_"):
        return f"{name.removeprefix('top1_of_')}: top-1"
    return name.replace("top1_own", "top-1 own").replace("_", " ")
