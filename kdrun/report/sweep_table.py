"""A sweep on the screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kdrun.figures import ABSENT, count, interval, percent, signed, three_digits
from kdrun.report import controls_sweep, int8_sweep, label_savings, sweeps, tradeoff
from kdrun.report.caption import TRIAL, is_trial
from kdrun.report.naming import short_id
from kdrun.report.read import NAME, read
from kdrun.report.schema import PartName, top1
from kdrun.report.statistics import GainEvidence, noise_of
from kdrun.report.sweep_verdict import comparison, comparisons, flattered, flattery, replacement, sees, whom
from kdrun.report.sweeps import Choice, JobRecord, Setting, What, spread_text
from kdrun.report.tables import Column, aligned, grid, natural_width, paragraph
from kdrun.report.verdict import JOINT, reduced

FAILED = "failed"
FAILURES_SHOWN = 5

SPACE = 3
"""Blanks between two columns."""

Figures = Mapping[str, tuple[What, PartName]]
"""Figures of a setting by the heading of their column."""


def text(jobs: Sequence[JobRecord], width: int = 80) -> str:
    """The sweep as plain text, no line longer than width: a grid for two swept keys (without seeds), else a
    list of settings; then the notes."""
    settings, part = sweeps.settings(jobs), sweeps.shown_part(jobs)
    what, chosen = sweeps.shown_figure(jobs, part), sweeps.choice(settings)
    possible = list(_tables(settings, sweeps.swept(jobs), part, what, chosen))
    body = next((each for each in possible if natural_width(each, SPACE) <= width), possible[-1])
    parts = [paragraph("\n".join(title(settings, part, what)), width), "\n", grid(body, width, SPACE)]
    more = list(more_tables(settings))
    for about, table in more:
        parts += ["\n", paragraph(about, width), paragraph("\n".join(aligned(table)), width)]
    if below := "\n".join(notes(jobs, settings, part, chosen)):
        parts += ["\n" if more else "", paragraph(below, width)]
    return "".join(parts)


def _tables(
    settings: Sequence[Setting], keys: Sequence[str], part: PartName, what: What, chosen: Choice | None
) -> Iterator[list[Column]]:
    """The tables that show the settings: the first that fits is best, the last is for a narrow terminal."""
    differ = tradeoff.models_differ(settings)
    if len(keys) == 2 and not differ:
        yield _grid(settings, keys, part, what, chosen)
        yield _grid(settings, keys[::-1], part, what, chosen)
    beside: list[What] = ["gain"] if what == "gain" else []
    if beside and sweeps.shared_control(settings, part) is None:
        yield listed(settings, keys, _on(part, "student", "control", "gain"), part, chosen)
        if not differ:
            return
    yield listed(settings, keys, _on(part, "student", *beside), part, chosen)


def _on(part: PartName, *whats: What) -> Figures:
    return {what: (what, part) for what in whats}


def more_tables(settings: Sequence[Setting]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """The tables below a sweep's own, each with the line above it: of each setting that has several controls,
    and of each that was measured in 8 bits.
    """
    for table in (controls_sweep, int8_sweep):
        for setting in settings:
            if body := table.rows(setting):
                which = f", {named(setting)}" if len(settings) > 1 else ""
                yield f"{table.about(setting)}{which}", [table.HEAD, *body]


def outcome(run: Path) -> list[str]:
    """A finished run's results for its line: `student 90.1`, `gain +1.2 (+0.1 to +2.3)`, its id."""
    id = short_id(run)
    if not (run / NAME).is_file():
        return ["not evaluated", id]
    report = read(run)
    student, comparison = top1(report, "student", "test"), report.get("comparison", {})
    figures = [f"student {percent(student)}"] if student is not None else []
    if "gain_top1" in comparison:
        ends = comparison.get("gain_interval")
        sure = f" ({interval(ends)})" if ends else ""
        figures.append(f"gain {signed(comparison['gain_top1'])}{sure}")
    if "reference" in comparison:
        against = comparison["reference"]
        figures.append(f"{against['verdict']} ({signed(against['difference'])} to the reference)")
    return [*figures, id]


def title(settings: Sequence[Setting], part: PartName, what: What) -> tuple[str, ...]:
    """`gain over control on validation, points, mean +- std of 3 seeds` and `control 86.8 +- 1.1`; or that
    there is nothing to show.
    """
    if problem := sweeps.none_finished(settings):
        return (problem,)
    over = sweeps.means(settings)
    if what == "student":
        return f"top-1 of the student on {part}, %, {over}", "no control"
    control = sweeps.shared_control(settings, part)
    which = " (of each run the strongest on validation)" if any(map(controls_sweep.gains, settings)) else ""
    shared = f"control {spread_text(control, 'control')} %{which}"
    known = f"{shared if control else 'controls differ'}{sees(settings)}"
    return f"gain over control on {part}, points, {over}", known


def _grid(
    settings: Sequence[Setting], keys: Sequence[str], part: PartName, what: What, chosen: Choice | None
) -> list[Column]:
    """The figure of each setting by two keys."""
    rows, across = (sweeps.values_of(settings, key) for key in keys)
    cells = {
        tuple(values(setting, keys)): f"{mark(chosen, i)} {cell(setting, what, part)}"
        for i, setting in enumerate(settings)
    }
    down_name, across_name = map(sweeps.key_name, keys)
    return [
        Column("", [f"{down_name} {row}" for row in rows]),
        *(Column(f"{across_name} {c}", [cells.get((row, c), ABSENT) for row in rows], True) for c in across),
    ]


def listed(
    settings: Sequence[Setting], keys: Sequence[str], figures: Figures, part: PartName, chosen: Choice | None
) -> list[Column]:
    """A line for each setting: its mark, its values, its figures, and what its student costs."""
    shown = [] if chosen is None else [Column("", [mark(chosen, place) for place in range(len(settings))])]
    for key in keys:
        words = any(sweeps.number(setting.values[key]) is None for setting in settings)
        texts = [sweeps.value_name(setting.values[key]) for setting in settings]
        shown.append(Column(sweeps.key_name(key), texts, not words))
    for name, figure in figures.items():
        shown.append(Column(name, [cell(setting, *figure) for setting in settings], True))
    return shown + [Column(name, texts, True) for name, texts in cost_columns(settings, part).items()]


def cost_columns(settings: Sequence[Setting], part: PartName) -> dict[str, list[str]]:
    """The columns `ms`, `parameters` and `front`, if the student models differ; else none.

    A figure that was not measured is ABSENT; without any latency there is no `ms`.
    """
    if not tradeoff.models_differ(settings):
        return {}
    points = {point.position: point for point in tradeoff.points(settings, part)}
    on = tradeoff.fronts(list(points.values()))
    columns: dict[str, list[str]] = {"ms": [], "parameters": [], "front": []}
    for place in range(len(settings)):
        latency, size = (points[place].latency, points[place].size) if place in points else (None, None)
        columns["ms"].append(ABSENT if latency is None else three_digits(latency))
        columns["parameters"].append(ABSENT if size is None else count(size))
        columns["front"].append(on.get(place, ""))
    if all(value == ABSENT for value in columns["ms"]):
        del columns["ms"]
    return columns


def _cost_notes(settings: Sequence[Setting], part: PartName) -> Iterator[str]:
    """What the columns of `cost_columns` mean, and the smallest student that is as good as the teacher."""
    if not tradeoff.models_differ(settings):
        return
    measured = tradeoff.measured_on(settings)
    yield "front: no other student is as accurate, and faster (latency) or smaller (size), or both" + (
        f"; ms: {measured}" if measured else ""
    )
    sentence = tradeoff.smallest(settings, part, short_names(settings))
    if sentence:
        yield f"{sentence}."


def notes(
    jobs: Sequence[JobRecord], settings: Sequence[Setting], part: PartName, chosen: Choice | None
) -> Iterator[str]:
    """The lines below the table: marks, the choice and its test figures, limits of the spread, failures."""
    reports = sweeps.reports(jobs)
    if any(map(is_trial, reports)):
        yield f"This is {TRIAL}."
    yield from dict.fromkeys(filter(None, map(reduced, reports)))
    if chosen is not None:
        best = settings[chosen.best]
        repeats = len(sweeps.by_repeat(best, "student", "validation"))
        yield (
            "* best student on validation, or at most one standard error below it "
            f"(noise of {noise_of(repeats, chosen.images, noun=sweeps.repeat(settings))})"
        )
        yield f"The setting chosen on validation ({named(best)}) has {on_test(best)}"
        yield flattery(flattered(settings, chosen))
    elif len(settings) == 1 and part == "validation":
        yield f"The student has {on_test(settings[0])}"
    elif len(settings) > 1 and reports:
        yield "No setting is chosen: there is no validation part, and the choice must not use test figures."
    yield from sure(settings, chosen)
    for setting in settings:
        yield from int8_sweep.sentences(setting)
    yield from label_savings.sentences(jobs)
    if sweeps.one_teacher(settings):
        yield "The spread leaves out the teacher's: one teacher serves all seeds of a setting."
    yield from _cost_notes(settings, part)
    counts = [len(setting.reports) for setting in settings]
    for setting, finished in zip(settings, counts, strict=True):
        if 0 < finished < max(counts):
            left_out = "" if chosen is None else ", so not compared"
            yield f"Only {finished} of {max(counts)} finished{left_out}: {named(setting)}"
    yield from _failures(jobs)


def sure(settings: Sequence[Setting], chosen: Choice | None) -> Iterator[str]:
    """The evidence for the gains on test: of each method, or else of the chosen or the only setting."""
    if len(settings) > 1 and list(settings[0].values) == ["method"]:
        for setting, one in zip(settings, comparisons(settings), strict=True):
            if one is not None and one.gain.n > 1:
                yield f"{named(setting)} against {whom([setting])} on test: {_claim(setting, one)}"
        return
    best = settings[chosen.best] if chosen else settings[0] if len(settings) == 1 else None
    if best is not None and (replaces := replacement(best)):
        yield f"The student is {replaces}."
    if best is None or (one := comparison(best)) is None:
        return
    if one.gain.n > 1:
        strongest = "the strongest control of each run" if controls_sweep.gains(best) else whom([best])
        yield f"Against {strongest} on test: {_claim(best, one)}"
    else:
        yield f"Against {whom([best])} on test: no verdict over {one.varied}, because there is only one."


def _claim(setting: Setting, one: GainEvidence) -> str:
    """The evidence with its verdict; below an upper bound is no defeat, so none is called one."""
    bound = whom([setting]) == JOINT and one.verdict == "LOSES"
    return f"below it: {one.evidence}" if bound else str(one)


def on_test(setting: Setting) -> str:
    """`90.9 +- 0.4 % on test, +4.1 +- 0.8 points over the control (better in 3 of 3)`."""
    gain, student = (sweeps.spread(setting, what, "test") for what in ("gain", "student"))
    if gain is None:
        return "no test figure" if student is None else f"{spread_text(student, 'student')} % on test"
    gains = [sweeps.figure(report, "gain", "test") for report in setting.reports]
    better = sum(value is not None and value > 0 for value in gains)
    often = f" (better in {better} of {gain.n})" if gain.n > 1 else ""
    accuracy = f"{spread_text(student, 'student')} % on test"
    control = whom([setting])
    if control == JOINT and gain.mean < 0:
        below = spread_text(gain._replace(mean=-gain.mean), "student")
        return f"{accuracy}, {below} points below {control}{often}"
    return f"{accuracy}, {spread_text(gain, 'gain')} points over {control}{often}"


def _failures(jobs: Sequence[JobRecord]) -> Iterator[str]:
    failed = [job for job in jobs if job["report"] is None]
    for job in failed[:FAILURES_SHOWN]:
        overrides = " ".join(f"{key}={sweeps.value_name(value)}" for key, value in job["overrides"].items())
        yield f"Failed: {overrides}: {' '.join(str(job.get('error') or 'no report').split())}"
    if len(failed) > FAILURES_SHOWN:
        yield f"Failed: {len(failed) - FAILURES_SHOWN} more"


def named(setting: Setting) -> str:
    """`temperature 4, alpha 0.5`."""
    named = [f"{sweeps.key_name(key)} {sweeps.value_name(value)}" for key, value in setting.values.items()]
    return ", ".join(named) or "the only setting"


def short_names(settings: Sequence[Setting]) -> list[str]:
    """The names of the settings, without the key if there is only one: `resnet14`."""
    names = [[sweeps.value_name(value) for value in setting.values.values()] for setting in settings]
    return [own[0] if len(own) == 1 else named(setting) for own, setting in zip(names, settings, strict=True)]


def values(setting: Setting, keys: Sequence[str]) -> list[str]:
    """The swept values of a setting as text, in the order of the keys."""
    return [sweeps.value_name(setting.values[key]) for key in keys]


def cell(setting: Setting, what: What, part: PartName) -> str:
    """A figure of a setting as a cell of a table: FAILED if no job of it finished."""
    if not setting.reports:
        return FAILED
    return spread_text(sweeps.spread(setting, what, part), what)


def mark(chosen: Choice | None, position: int) -> str:
    """`*` for the best setting and those within the noise of it."""
    return "*" if chosen is not None and position in chosen.within else ""
