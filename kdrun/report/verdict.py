"""The verdict of a run in words: what is claimed, the evidence for it, and its limits."""

from __future__ import annotations

import math

from kdrun.config.controls import role
from kdrun.figures import count, digits_for, interval, percent, plural, signed, times
from kdrun.report import int8, replacing
from kdrun.report.schema import ModelReport, Report, called, is_bound, named_control, parts, strongest, top1

TAUGHT = role("self")
"""The control that learns from images without labels too."""

JOINT = "the jointly trained upper bound"
"""A control that learned from all labels at once, where each teacher of the student learned some of them."""

SURE = 1.645
"""Standard deviations above chance that pure guessing reaches once in twenty times."""


def verdict(report: Report) -> str:
    """A few sentences: the gain over the control with its interval, or that it is at chance; then size
    and (if significant) speed; then how it stands to the model that it is to replace.
    """
    if report.get("config", {}).get("quick"):
        return "A trial: everything ran. Two batches say nothing about the method."
    said = [
        _chance(report),
        _cost(report),
        int8.sentences(report),
        replacing.sentences(report),
        reduced(report),
    ]
    if not said[0] or report.get("comparison", {}).get("verdict") == "worse":
        said.insert(1, _gain(report))
    return " ".join(part for part in said if part)


def at_chance(report: Report) -> bool:
    """Whether the student is not measurably better on test than one answer for all images."""
    share, right = report["dataset"].get("most_frequent"), top1(report, "student", "test")
    images = parts(report, "student").get("test", {}).get("n")
    if share is None or right is None or not images:
        return False
    return right <= share + SURE * math.sqrt(share * (100 - share) / images)


def tone(report: Report) -> str:
    """What was found: `better`, `worse` or `unclear`; empty without a control. To be below an upper bound is
    not to lose.
    """
    found = "worse" if at_chance(report) else report.get("comparison", {}).get("verdict", "")
    bound = found == "worse" and is_bound(report)
    return "unclear" if bound or found == "no measurable difference" else found


def _chance(report: Report) -> str:
    right = top1(report, "student", "test")
    if right is None or not at_chance(report):
        return ""
    dataset, images = report["dataset"], parts(report, "student").get("test", {}).get("n", 0)
    classes = f" of {count(dataset['classes'])} classes" if "classes" in dataset else ""
    share = percent(dataset["most_frequent"])
    return (
        f"The student is at chance ({percent(right)} %; always the most frequent{classes}: {share} %): it "
        f"learned nothing that {plural(images, 'test image')} show."
    )


def reduced(report: Report) -> str:
    """That the test part was reduced with dataset.test; empty if it was not."""
    dataset = report["dataset"]
    if "test_of" not in dataset:
        return ""
    used, whole = count(dataset["test"]), count(dataset["test_of"])
    return f"The test part was reduced for a try-out: {used} of its {whole} images."


def gain(report: Report) -> str:
    """`+3.9 points (95 % interval +2.1 to +5.6)`, or nothing without a control."""
    comparison = report.get("comparison", {})
    if "gain_top1" not in comparison:
        return ""
    digits, ends = _digits(report), comparison.get("gain_interval")
    sure = f" (95 % interval {interval(ends, digits)})" if ends else ""
    return f"{signed(comparison['gain_top1'], digits)} points{sure}"


def _gain(report: Report) -> str:
    comparison = report.get("comparison", {})
    if "gain_top1" not in comparison or "verdict" not in comparison:
        return _without_control(report)
    digits, points = _digits(report), comparison["gain_top1"]
    size, more = percent(abs(points), digits), _unlabelled(report, points) + _unread(report)
    if is_bound(report):
        unclear = "No measurable difference: " if comparison["verdict"] == "no measurable difference" else ""
        the = "the" if unclear else "The"
        near = _near(points, size, its_control(report))
        return f"{unclear}{the} distilled student {near} ({_how_sure(report)}){more}."
    claim = {
        "better": f"The distilled student beats {its_control(report)} by {size} points",
        "worse": f"The distilled student loses to {its_control(report)} by {size} points",
        "no measurable difference": "No measurable difference: the distilled student "
        + _near(points, size, its_control(report)),
    }[comparison["verdict"]]
    return f"{claim} ({_how_sure(report)}){more}."


def its_control(report: Report) -> str:
    """`its control`; of several `the strongest of its 5 controls on validation, self,`. A control that has
    jointly what the teachers learned one by one is an upper bound.
    """
    comparison, name = report.get("comparison", {}), named_control(strongest(report))
    several, bound = len(comparison.get("controls", {})), is_bound(report)
    if not several:
        control = JOINT if bound else "its control"
        return control if name == "plain" else f"{control}, {name},"
    which = f"{several} {JOINT.removeprefix('the ')}s" if bound else f"its {several} controls"
    if comparison.get("chosen_by") == "validation":
        return f"the strongest of {which} on validation, {name},"
    return f"the first of {which}, {name}, as no validation images could choose one,"


def _near(points: float, size: str, control: str) -> str:
    if not size.strip("0."):
        return f"scores the same as {control}".rstrip(",")
    return f"is {size} points {'above' if points > 0 else 'below'} {control}".rstrip(",")


def _how_sure(report: Report) -> str:
    comparison, digits = report.get("comparison", {}), _digits(report)
    sentences = []
    if "gain_interval" in comparison:
        low, high = comparison["gain_interval"]
        sentences.append(f"95 % interval {interval((low, high), digits)}")
        # The interval leaves out 0 but the test does not reject: the p explains the verdict.
        if comparison.get("verdict") == "no measurable difference" and not low <= 0 <= high:
            sentences.append(f"yet p = {comparison.get('mcnemar_p', 1):.2f} with so few images told apart")
    return ", ".join([*sentences, "over the test images only: one seed" if sentences else "one seed"])


def _digits(report: Report) -> int:
    return digits_for(report.get("comparison", {}).get("gain_interval", []))


def _unlabelled(report: Report, points: float) -> str:
    unlabelled = report.get("distillation", {}).get("unlabelled")
    if not unlabelled or strongest(report) == TAUGHT:
        return ""
    how = "with the help of" if points > 0 else "although it also learned from"
    return f", {how} {plural(unlabelled, 'unlabelled image')}"


def _unread(report: Report) -> str:
    """That the control has labels which the student has not, if the name of the control does not say so."""
    labels = report.get("distillation", {}).get("labels_unread")
    if not labels or is_bound(report) or strongest(report) == TAUGHT:
        return ""
    return f"; the control learned from {plural(labels, 'label')}, the student from none"


def _without_control(report: Report) -> str:
    together = report["models"].get("teacher", ModelReport()).get("source") == "together"
    teacher = "the teachers together score" if together else "the teacher scores"
    who = {"student": "the student scores", "teacher": teacher}
    scored = [
        f"{words} {percent(value)} %"
        for role, words in who.items()
        if (value := top1(report, role, "test")) is not None
    ]
    figures = f": {', '.join(scored)} on test, one seed" if scored else ""
    return f"There is no control, so nothing is claimed about a gain from distillation{figures}."


def _cost(report: Report) -> str:
    size, speed = _size(report), _speed(report)
    if size and speed:
        return f"It has {size} and {speed}."
    return f"It has {size}." if size else f"It {speed}." if speed else ""


def _size(report: Report) -> str:
    compression = report.get("comparison", {}).get("compression")
    if not compression:
        return ""
    other = called(report, "teacher")
    if 0.95 < compression < 1.05:
        return f"as many parameters as the {other}"
    if compression > 1:
        return f"{times(compression)} fewer parameters than the {other}"
    return f"{times(1 / compression)} the {other}'s parameters"


def _speed(report: Report) -> str:
    """At the smallest batch of the first device, and only if it is more than noise."""
    rows = report.get("comparison", {}).get("speedup", [])
    if not rows:
        return ""
    chosen = min((row for row in rows if row["device"] == rows[0]["device"]), key=lambda row: row["batch"])
    if not chosen.get("significant"):
        return ""
    ratio, where = chosen["ratio"], f"at batch {chosen['batch']} on {chosen['device']}"
    if ratio > 1:
        return f"answers {times(ratio)} as fast {where}"
    return f"takes {times(1 / ratio)} as long {where}"
