"""What errors.png and knowledge.png of a run show, from its answers.npz and thumbnails.npz."""

from __future__ import annotations

import numpy as np

from kdrun.report import mistakes, sheets
from kdrun.report.answers import Answers
from kdrun.report.plots import COLOURS, shortened
from kdrun.report.soft import WITHOUT, share_text
from kdrun.report.thumbnails import Thumbnails

NAME, OTHER = 17, 11
"""The most letters of a class name below an image: alone, and before a share."""


def errors(answers: Answers, shown: Thumbnails) -> sheets.Sheet | None:
    """The surest errors of the student; None if there are none, or if none are kept."""
    rows = shown.get("errors/rows", np.empty(0, int))
    if not len(rows) or not _fits(answers, shown):
        return None
    captions = [
        sheets.Caption(image, (_truth(answers, row), _says(answers, row, "student", sheets.WRONG)))
        for row, image in zip(rows.tolist(), shown["errors/images"], strict=True)
    ]
    wrong, labelled = len(mistakes.surest(answers)), int((answers["test/labels"] >= 0).sum())
    which = f"all {wrong}" if wrong == len(rows) else f"the surest {len(rows)} of {wrong:,}"
    return sheets.Sheet(captions, f"{which} errors of the student on {labelled:,} test images")


def knowledge(answers: Answers, shown: Thumbnails) -> sheets.Knowledge | None:
    """The soft targets of the role that taught the student; None if none are kept."""
    if not len(shown.get("knowledge/rows", ())) or not _fits(answers, shown):
        return None
    teacher, temperature = str(shown["taught_by"]), float(shown["temperature"])
    names = list(map(str, answers["classes"]))
    rows = shown["knowledge/rows"].tolist()
    images = [
        sheets.Softened(image, _heading(answers, row, teacher), logits)
        for row, image, logits in zip(rows, shown["knowledge/images"], shown["knowledge/logits"], strict=True)
    ]
    parted = [
        sheets.Caption(image, (_truth(answers, row), *_both(answers, row, teacher, shares.tolist())))
        for row, image, shares in zip(
            shown["parted/rows"].tolist(), shown["parted/images"], shown["parted/shares"], strict=True
        )
    ]
    # beside 1 the temperature of the loss; WITHOUT if it has none, or if it is 1
    other = temperature if np.isfinite(temperature) and temperature != 1 else WITHOUT
    rule, count = _rule(answers, len(rows), other), int(shown["parted/count"])
    return sheets.Knowledge(images, names, (1.0, other), teacher, rule, shown["entropy"], parted, count)


def _rule(answers: Answers, count: int, temperature: float) -> str:
    """How the images were chosen."""
    labels = answers["test/labels"]
    every = len(np.unique(labels[labels >= 0]))
    of = "of each class" if count >= every else f"of {count} of {every} classes, evenly spaced,"
    return f"{of} the test image of highest entropy at T = {temperature:g}, right or wrong"


def _fits(answers: Answers, shown: Thumbnails) -> bool:
    """Whether the answers cover all images and roles that are shown."""
    last = max(
        (int(values.max()) for name, values in shown.items() if name.endswith("/rows") and len(values))
    )
    roles = {"labels", "student", *([str(shown["taught_by"])] if "taught_by" in shown else [])}
    return all(len(answers.get(f"test/{role}", ())) > last for role in roles)


def _heading(answers: Answers, row: int, teacher: str) -> str:
    """`truth 2   teacher 2   student 3`."""
    roles = {"truth": "labels", teacher: teacher, "student": "student"}
    named = [f"{word} {shortened(_name(answers, role, row), NAME)}" for word, role in roles.items()]
    return f"image {row}:  {'   '.join(named)}"


def _truth(answers: Answers, row: int) -> tuple[str, str]:
    return f"image {row}: {shortened(_name(answers, 'labels', row), NAME)}", sheets.GREY


def _says(answers: Answers, row: int, role: str, colour: str) -> tuple[str, str]:
    share = answers.get(f"test/{role}/{mistakes.SHARE}")
    behind = "" if share is None else f", {share_text(float(share[row]))}"
    return f"says {shortened(_name(answers, role, row), OTHER)}{behind}", colour


def _both(answers: Answers, row: int, teacher: str, shares: list[float]) -> list[tuple[str, str]]:
    return [
        (
            f"{role}: {shortened(_name(answers, role, row), OTHER)}, {share_text(share)}",
            COLOURS.get(role, "black"),
        )
        for role, share in zip((teacher, "student"), shares, strict=True)
    ]


def _name(answers: Answers, role: str, row: int) -> str:
    place = int(answers[f"test/{role}"][row])
    return str(answers["classes"][place]) if place >= 0 else "unknown"
