"""The figures of a run as rows of text, one column per role: what the table on the screen and report.md
share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from kdrun.figures import ABSENT, count, duration, file_size, percent, plural, short, three_digits
from kdrun.report.schema import ROLES, Latency, Model, Report, Scores, called, parts, roles

Show = Callable[[float], str]


class Place(NamedTuple):
    """What a latency belongs to."""

    device: str
    mode: str
    threads: int
    batch: int


class Row(NamedTuple):
    """A line of the table: what is measured, its unit, and one cell per role (ABSENT where there is no
    figure)."""

    label: str
    unit: str
    cells: tuple[str, ...]


def caption(report: Report) -> list[str]:
    """What the figures are about, a line each: which models on which data; which part and weights; which
    device."""
    names = {role: report["models"][role].get("name", "") for role in roles(report)}
    between = "".join(f"{name} ({role}) -> " for role, name in names.items() if role not in ROLES)
    above = called(report, "teacher") if "teacher" in names else "teacher"
    arrow = "<->" if above == "peer" else "->"
    pair = f"{names.get('teacher', 'no teacher')} ({above}) {arrow} {between}{names['student']} (student"
    same = names.get("control", names["student"]) == names["student"]
    pair += ", control)" if "control" in names and same else ")"
    lines = [f"{pair} on {report['dataset'].get('name', '')}", headline(report), _timed_on(report)]
    return [line for line in (*lines, _along_the_chain(report)) if line]


def _along_the_chain(report: Report) -> str:
    """`top-1 test: teacher 93.1, assistant1 92.0, assistant2 91.4, ...`, for which a table has no room."""
    chain = [role for role in roles(report) if role != "control"]
    found = [(role, parts(report, role).get("test", Scores()).get("top1")) for role in chain]
    told = ", ".join(f"{role} {percent(value)}" for role, value in found if value is not None)
    return f"top-1 test: {told}" if len(chain) > 3 and told else ""


def headline(report: Report) -> str:
    """`1,000 test images, after the last epoch`."""
    when = {"last": "after the last epoch", "val_best": "at the epoch best on validation"}[report["headline"]]
    images = max((parts(report, role).get("test", Scores()).get("n", 0) for role in roles(report)), default=0)
    return f"{plural(images, 'test image')}, {when}" if images else when


def rows(report: Report, full: bool = False) -> list[Row]:
    """All rows that hold a figure. full adds what a screen has no room for: bytes, calibrated ECE, p95,
    images/s."""
    found = [*_quality(report, full), *_likeness(report), *_cost(report, full), *_latency(report, full)]
    found += _training(report)
    return [row for row in found if set(row.cells) != {ABSENT}]


def _quality(report: Report, full: bool) -> Iterator[Row]:
    yield _scored(report, "top-1 test", "%", "test", "top1", percent)
    yield _scored(report, "top-5 test", "%", "test", "top5", percent)
    yield _scored(report, "top-1 validation", "%", "validation", "top1", percent)
    yield _scored(report, "NLL test", "nats", "test", "nll", lambda value: f"{value:.3f}")
    yield _scored(report, "ECE test", "%", "test", "ece", percent)
    if full:
        yield _scored(report, "temperature fitted on validation", "", "test", "temperature", three_digits)
        yield _scored(report, "ECE test at that temperature", "%", "test", "ece_calibrated", percent)


def _likeness(report: Report) -> Iterator[Row]:
    found = report.get("comparison", {})
    who = found.get("learned_from", "teacher")
    yield _student_only(report, f"agreement with {who}", "%", found.get("agreement"), percent)
    yield _student_only(report, f"KL from {who}", "nats", found.get("kl_teacher_student"), three_digits)
    share = found.get("gap_closed")
    yield _student_only(report, "gap to teacher closed", "%", share, lambda value: f"{100 * value:.0f}")


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
    found = _places(report)
    for place in found:
        label = f"latency, batch {place.batch}" + (f", {_how(place)}" if _devices(found) > 1 else "")
        at = [_at(report["models"][role], place) for role in roles(report)]
        yield _timed(label, "ms", at, lambda row: three_digits(row["p50_ms"]))
        if full:
            yield _timed(f"{label}, p95", "ms", at, lambda row: three_digits(row["p95_ms"]))
            yield _timed(f"{label}, images/s", "", at, lambda row: count(row["images_per_s"]))


def _timed_on(report: Report) -> str:
    """`median latency on cpu, 1 thread`, where all are of one device; else each row names its own."""
    found = _places(report)
    return f"median latency on {_how(found[0])}" if _devices(found) == 1 else ""


def _places(report: Report) -> list[Place]:
    measured = (_place(row) for role in roles(report) for row in report["models"][role].get("latency", []))
    return list(dict.fromkeys(measured))


def _devices(found: list[Place]) -> int:
    return len({place[:3] for place in found})


def _how(place: Place) -> str:
    return f"{place.device}, " + (plural(place.threads, "thread") if place.device == "cpu" else place.mode)


def _row(report: Report, label: str, unit: str, cell: Callable[[Model], str]) -> Row:
    return Row(label, unit, tuple(cell(report["models"][role]) for role in roles(report)))


def _scored(
    report: Report, label: str, unit: str, part: Literal["validation", "test"], key: str, show: Show
) -> Row:
    figures = (parts(report, role).get(part, Scores()).get(key) for role in roles(report))
    return Row(label, unit, tuple(_shown(value, show) for value in figures))  # type: ignore[arg-type]


def _student_only(report: Report, label: str, unit: str, value: float | None, show: Show) -> Row:
    return Row(
        label, unit, tuple(_shown(value if role == "student" else None, show) for role in roles(report))
    )


def _timed(label: str, unit: str, found: list[Latency | None], show: Callable[[Latency], str]) -> Row:
    return Row(label, unit, tuple(ABSENT if row is None else show(row) for row in found))


def _place(row: Latency) -> Place:
    return Place(row["device"], row["mode"], row["threads"], row["batch"])


def _at(model: Model, place: Place) -> Latency | None:
    return next((row for row in model.get("latency", []) if _place(row) == place), None)


def _shown(value: float | None, show: Show) -> str:
    return ABSENT if value is None else show(value)


def _trained(model: Model) -> str:
    """The time, or where the weights came from; a cached model's time is that of the run that trained it."""
    source = model.get("source", "trained")
    took = _shown(model.get("train_seconds"), duration)
    if source in ("trained", "peer"):
        return took
    return source if took == ABSENT or source != "cache" else f"{took} (cached)"


def _companions(model: Model) -> str:
    found = len(model.get("companions", []))
    return plural(found, "other") if found else ABSENT


def _hundredths(share: float) -> str:
    return f"{100 * share:.0f}"
