"""The figures of a run as rows of text, one column per role, for the table on the screen and report.md.

Figures that this file does not name come from the user's evaluators, and are shown with their own names and
units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from kdrun import figures
from kdrun.figures import (
    ABSENT,
    count,
    duration,
    file_size,
    percent,
    plural,
    short,
    signed,
    three_digits,
)
from kdrun.report import replacing
from kdrun.report.schema import Latency, Model, Part, Report, Scores, called, gap_closed, parts, roles

Show = Callable[[float], str]

SCORES = ("n", "top1", "top5", "nll", "ece", "temperature", "ece_calibrated")
"""Figures of a part that have rows of their own (`n` is in the caption)."""


class Place(NamedTuple):
    """Where and how a latency was measured."""

    device: str
    mode: str
    threads: int
    batch: int


class Row(NamedTuple):
    """A line of the table: what is measured, its unit, and a cell for each role, ABSENT without a figure."""

    label: str
    unit: str
    cells: tuple[str, ...]


def rows(report: Report, full: bool = False) -> list[Row]:
    """All rows with a figure. full: also bytes, calibrated ECE, p95, images/s, too many for a screen."""
    every = [*_quality(report, full), *_other_scores(report, full), *_likeness(report), *_others(report)]
    every += [*_cost(report, full), *_latency(report, full), *_training(report)]
    return measured(every)


def measured(rows: Iterable[Row]) -> list[Row]:
    """The rows with a figure."""
    return [row for row in rows if set(row.cells) != {ABSENT}]


def _quality(report: Report, full: bool) -> Iterator[Row]:
    yield _scored(report, "top-1 test", "%", "test", "top1", percent)
    yield _scored(report, "top-5 test", "%", "test", "top5", percent)
    yield _scored(report, "top-1 validation", "%", "validation", "top1", percent)
    yield _scored(report, "NLL test", "nats", "test", "nll", lambda value: f"{value:.3f}")
    yield _scored(report, "ECE test", "%", "test", "ece", percent)
    if full:
        yield _scored(report, "temperature fitted on validation", "", "test", "temperature", three_digits)
        yield _scored(report, "ECE test at that temperature", "%", "test", "ece_calibrated", percent)


def _other_scores(report: Report, full: bool) -> Iterator[Row]:
    """Figures of a part that are not in SCORES: on test, and with `full` on validation too."""
    own: tuple[Part, ...] = ("test", "validation") if full else ("test",)
    for part in own:
        for name in _names(parts(report, role).get(part, {}) for role in roles(report)):
            if name not in SCORES:
                unit = report.get("units", {}).get(name, "")
                yield _scored(
                    report, f"{_words(name)} {part}", unit, part, name, partial(figures.measured, unit=unit)
                )


def _likeness(report: Report) -> Iterator[Row]:
    comparison = report.get("comparison", {})
    above = called(report, "teacher") if "teacher" in report["models"] else "teacher"
    who = comparison.get("learned_from", above)
    yield _student_only(report, f"agreement with {who}", "%", comparison.get("agreement"), percent)
    yield _student_only(report, f"KL from {who}", "nats", comparison.get("kl_teacher_student"), three_digits)
    yield _student_only(
        report,
        f"gap to {above if above == 'teachers' else 'teacher'} closed",
        "%",
        gap_closed(report),
        lambda value: f"{value:.0f}",
    )
    against = comparison.get("reference")
    if against is not None and "verdict" in against:
        bounds = replacing.bounds_of(against)
        show = partial(signed, digits=replacing.digits(bounds, against["margin"]))
        yield _student_only(report, "against reference", "points", bounds.difference, show)
        yield _student_only(report, "at least (95 %)", "points", bounds.at_least, show)


def _others(report: Report) -> Iterator[Row]:
    """Figures of evaluators that do not depend on images."""
    for name in _names(report["models"][role].get("figures", {}) for role in roles(report)):
        unit = report.get("units", {}).get(name, "")
        yield _row(
            report,
            _words(name),
            unit,
            lambda model, name=name, unit=unit: _shown(  # type: ignore[misc]
                model.get("figures", {}).get(name), partial(figures.measured, unit=unit)
            ),
        )


def _cost(report: Report, full: bool) -> Iterator[Row]:
    yield _row(report, "parameters", "", lambda model: _shown(model.get("params"), count))
    yield _row(report, "MACs", "", lambda model: _shown(model.get("macs"), short))
    if full:
        yield _row(report, "weights", "", lambda model: _shown(model.get("bytes"), file_size))


def _training(report: Report) -> Iterator[Row]:
    yield _row(report, "trained in", "", _trained)
    yield _row(report, "trained together with", "", _companions)
    yield _row(report, "waited for images", "%", lambda model: _shown(model.get("waited"), _hundredths))


def _latency(report: Report, full: bool) -> Iterator[Row]:
    places = _places(report)
    by_role = [
        {place_of(row): row for row in report["models"][role].get("latency", [])} for role in roles(report)
    ]
    for place in places:
        label = f"latency, batch {place.batch}" + (f", {_how(place)}" if _devices(places) > 1 else "")
        at = [own.get(place) for own in by_role]
        yield _timed(label, "ms", at, lambda row: three_digits(row["p50_ms"]))
        if full:
            yield _timed(f"{label}, p95", "ms", at, lambda row: three_digits(row["p95_ms"]))
            yield _timed(f"{label}, images/s", "", at, lambda row: count(row["images_per_s"]))


def timed_on(report: Report) -> str:
    """`median latency on cpu, 1 thread` if all are of one device; else empty, and each row names its own."""
    places = _places(report)
    return f"median latency on {_how(places[0])}" if _devices(places) == 1 else ""


def _places(report: Report) -> list[Place]:
    rows = (row for role in roles(report) for row in report["models"][role].get("latency", []))
    return list(dict.fromkeys(map(place_of, rows)))


def _devices(places: list[Place]) -> int:
    return len({place[:3] for place in places})


def _how(place: Place) -> str:
    return f"{place.device}, " + (plural(place.threads, "thread") if place.device == "cpu" else place.mode)


def _row(report: Report, label: str, unit: str, cell: Callable[[Model], str]) -> Row:
    return Row(label, unit, tuple(cell(report["models"][role]) for role in roles(report)))


def _scored(report: Report, label: str, unit: str, part: Part, key: str, show: Show) -> Row:
    figures = (parts(report, role).get(part, Scores()).get(key) for role in roles(report))
    return Row(label, unit, tuple(_shown(value, show) for value in figures))  # type: ignore[arg-type]


def _student_only(report: Report, label: str, unit: str, value: float | None, show: Show) -> Row:
    return Row(
        label, unit, tuple(_shown(value if role == "student" else None, show) for role in roles(report))
    )


def _timed(label: str, unit: str, rows: list[Latency | None], show: Callable[[Latency], str]) -> Row:
    return Row(label, unit, tuple(ABSENT if row is None else show(row) for row in rows))


def place_of(row: Latency) -> Place:
    """The place of a latency."""
    return Place(row["device"], row["mode"], row["threads"], row["batch"])


def _shown(value: float | None, show: Show) -> str:
    return ABSENT if value is None else show(value)


def _trained(model: Model) -> str:
    """The training time, or the source of the weights. For a cached model: of the run that trained it."""
    source = model.get("source", "trained")
    took = _shown(model.get("train_seconds"), duration)
    if source in ("trained", "peer"):
        return took
    return source if took == ABSENT or source != "cache" else f"{took} (cached)"


def _companions(model: Model) -> str:
    others = len(model.get("companions", []))
    return plural(others, "other") if others else ABSENT


def _names(figures: Iterable[Mapping[str, object]]) -> list[str]:
    """The names of all figures, each once, in the order in which they come."""
    return list(dict.fromkeys(name for some in figures for name in some))


def _words(name: str) -> str:
    if name.startswith("top1_of_"):
        return f"{name.removeprefix('top1_of_')}: top-1"
    return name.replace("top1_own", "top-1 own").replace("_", " ")


def _hundredths(share: float) -> str:
    return f"{100 * share:.0f}"
