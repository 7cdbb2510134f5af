"""The section of report.md about errors: worst classes, confused pairs, images gained and lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kdrun.evaluation.counts import LEVEL, mid_p, share_interval
from kdrun.figures import percent, plural, signed
from kdrun.report.blocks import Block, Table
from kdrun.report.mistakes import FILE
from kdrun.report.schema import PerClass, Report, called
from kdrun.report.statistics import holm
from kdrun.report.verdict import its_control

WORST = 10
"""Classes in the table."""

NAMED = 5
"""Pairs, and classes gained or lost, that are named in a sentence."""


def blocks(report: Report) -> list[Block]:
    """The section without its title; empty for reports of versions that kept no answers by class."""
    classes = report.get("per_class")
    return [] if classes is None else list(_blocks(report, classes))


def _blocks(report: Report, classes: PerClass) -> Iterator[Block]:
    images = sum(classes["images"])
    wrong = images - sum(classes["right"]["student"])
    listed = f" `{FILE}` lists them, the surest first." if wrong else ""
    yield f"The student has {wrong:,} of {images:,} test images wrong.{listed}"
    order = sorted(range(len(classes["names"])), key=lambda place: _accuracy(classes, "student", place))
    some = len(order) > WORST
    first = f"the {WORST} worst of {len(order)} classes" if some else "class"
    yield _table(report, classes, order[:WORST], first)
    yield "Intervals: Wilson 1927, over the test images alone; each holds for one class by itself."
    yield from _pairs(report)
    if "gained" in classes:
        yield _against_control(report, classes)


def _table(report: Report, classes: PerClass, order: Sequence[int], first: str) -> Table:
    others = [role for role in report["models"] if role != "student" and role in classes["right"]]
    head = [first, "images", "student %", "95 % interval", *(f"{called(report, role)} %" for role in others)]
    body = []
    for place in order:
        low, high = share_interval(classes["right"]["student"][place], classes["images"][place])
        row = [classes["names"][place], f"{classes['images'][place]:,}"]
        row += [percent(_accuracy(classes, "student", place)), f"{percent(low)} to {percent(high)}"]
        body.append([*row, *(percent(_accuracy(classes, role, place)) for role in others)])
    return Table(head, body)


def _pairs(report: Report) -> Iterator[str]:
    pairs = [pair for pair in report.get("confused", []) if pair["images"] > 1][:NAMED]
    if pairs:
        named = (f"{pair['truth']} taken for {pair['answer']} ({pair['images']:,})" for pair in pairs)
        yield f"Most confused on test, in images: {', '.join(named)}."


def _against_control(report: Report, classes: PerClass) -> str:
    gains = {
        place: classes["gained"][place] - classes["lost"][place] for place in range(len(classes["names"]))
    }
    order = sorted(gains, key=lambda place: -gains[place])
    gained = [_change(classes, place) for place in order if gains[place] > 0][:NAMED]
    lost = [_change(classes, place) for place in reversed(order) if gains[place] < 0][:NAMED]
    parts = [f"gained most in {', '.join(gained)}" if gained else "gained in no class"]
    parts.append(f"lost most in {', '.join(lost)}" if lost else "lost in no class")
    adjusted = holm([mid_p(*pair) for pair in zip(classes["gained"], classes["lost"], strict=True)])
    sure = [name for name, value in zip(classes["names"], adjusted, strict=True) if value < LEVEL]
    shown = ", ".join(sure[:WORST]) + (f" and {len(sure) - WORST} more" if len(sure) > WORST else "")
    test = f"McNemar's mid-p, Holm over {plural(len(adjusted), 'class', 'classes')}"
    verdict = f"told apart ({test}): {shown}" if sure else f"no class can be told apart from chance ({test})"
    whom = its_control(report).rstrip(",")
    return f"Against {whom}, in images, the student {'; '.join(parts)}. Of these, {verdict}."


def _change(classes: PerClass, place: int) -> str:
    """`3 (+9: 10 gained, 1 lost)`."""
    gained, lost = classes["gained"][place], classes["lost"][place]
    return f"{classes['names'][place]} ({signed(gained - lost, 0)}: {gained} gained, {lost} lost)"


def _accuracy(classes: PerClass, role: str, place: int) -> float:
    return 100 * classes["right"][role][place] / classes["images"][place]
