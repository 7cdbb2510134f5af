"""The lines above a table that say which models, data and device its figures are about."""

from __future__ import annotations

from collections.abc import Iterator

from kdrun.figures import minute, percent, plural
from kdrun.report.earlier import kept_from
from kdrun.report.origin import began
from kdrun.report.rows import timed_on
from kdrun.report.schema import (
    REFERENCE,
    ROLES,
    Report,
    Scores,
    called,
    controls,
    data_name,
    parts,
    roles,
    teachers,
)

TRIAL = "a trial (quick=true): two batches of everything, so the figures are no result"


def caption(report: Report) -> list[str]:
    """A line each: which models on which data; which part and weights; which device; then what is special."""
    names = {role: report["models"][role].get("name", "") for role in roles(report)}
    several = teachers(report)
    between = "".join(
        f"{name} ({role}) -> "
        for role, name in names.items()
        if role not in (*ROLES, *several, *controls(report))
    )
    above = called(report, "teacher") if "teacher" in names else "teacher"
    arrow = "<->" if above == "peer" else "->"
    head = f"{names.get('teacher', 'no teacher')} ({above})"
    if several:
        head = " + ".join(f"{names[role]} ({called(report, role)})" for role in several)
    pair = f"{head} {arrow} {between}{names['student']} (student"
    beside = [called(report, role) for role in controls(report) if names[role] == names["student"]]
    pair += f"{', '.join(['', *beside])})"
    lines = [TRIAL] if is_trial(report) else []
    lines += [f"{pair} on {data_name(report)}", headline(report), timed_on(report)]
    lines += [*_own_datasets(report), _along_the_chain(report), *began(report), *_earlier(report)]
    return [line for line in lines if line]


def is_trial(report: Report) -> bool:
    """Whether the run was a trial with quick=true, which is no result."""
    return bool(report.get("config", {}).get("quick"))


def _earlier(report: Report) -> Iterator[str]:
    """`measured on 2026-01-02 03:04: latency`, for figures that are kept from an earlier evaluation."""
    for look in report.get("earlier", []):
        yield f"measured on {minute(look.get('created', ''))}: {', '.join(kept_from(report, look))}"


def _own_datasets(report: Report) -> Iterator[str]:
    """`teacher: trained on its own data set, mnist (10,000 test images)`, of each that was."""
    for role in roles(report):
        if own := report["models"][role].get("dataset"):
            images = plural(own.get("test", 0), "test image")
            yield f"{called(report, role)}: trained on its own data set, {own.get('name', '')} ({images})"


def _along_the_chain(report: Report) -> str:
    """`top-1 test: teacher 93.1, assistant1 92.0, assistant2 91.4, ...`, for which a table has no room."""
    beside = (*controls(report), REFERENCE, *teachers(report))
    chain = [role for role in roles(report) if role not in beside]
    scores = [(role, parts(report, role).get("test", Scores()).get("top1")) for role in chain]
    texts = ", ".join(f"{role} {percent(value)}" for role, value in scores if value is not None)
    return f"top-1 test: {texts}" if len(chain) > 3 and texts else ""


def headline(report: Report) -> str:
    """`1,000 test images, after the last epoch`."""
    when = {"last": "after the last epoch", "val_best": "at the epoch best on validation"}[report["headline"]]
    images = max((parts(report, role).get("test", Scores()).get("n", 0) for role in roles(report)), default=0)
    return f"{plural(images, 'test image')}, {when}" if images else when
