"""The pictures of a finished run, drawn from its files, without the data set and the models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdrun.artefacts import locked, write_text
from kdrun.records import METRICS, read_rows
from kdrun.report import answers, markdown, plots, sheets, thumbnails
from kdrun.report.read import read
from kdrun.report.schema import Report, roles

NAMES = CURVES, CONFUSION, ERRORS, KNOWLEDGE = markdown.PLOTS


def drawable(folder: Path) -> bool:
    """Whether the confusion matrix is drawn or can be. Runs of earlier versions kept no answers."""
    return (folder / CONFUSION).exists() or (folder / answers.NAME).exists()


def draw_missing(folder: Path) -> list[str]:
    """Draws the pictures that a finished run lacks, and adds them to report.md; their names.

    Raises KdrunError without a report, and OSError for a folder that cannot be written.
    """
    possible = NAMES if (folder / thumbnails.NAME).exists() else NAMES[:2]
    if all((folder / name).exists() for name in possible):
        return []
    with locked(folder):
        return draw(folder, read(folder))


def draw(folder: Path, report: Report, again: bool = False) -> list[str]:
    """Draws the pictures for which there is data, and writes report.md; the names of those that were drawn.

    again: also those that exist. A confusion matrix that shows models whose answers are lost stays as it is.
    """
    kept = answers.read(folder)
    drawn = [
        *_curves(folder, report, again),
        *_confusion(folder, report, kept, again),
        *_sheets(folder, kept, again),
    ]
    if drawn or again:
        page(folder, report)
    return drawn


def _curves(folder: Path, report: Report, again: bool) -> list[str]:
    rows = read_rows(folder / METRICS)
    if not rows or ((folder / CURVES).exists() and not again):  # no rows: all models come from files
        return []
    plots.curves(folder / CURVES, rows, pair_of(report), headline_epochs(report))
    return [CURVES]


def headline_epochs(report: Report) -> dict[str, int]:
    """By model, the epoch whose weights the report's headline is about."""
    key = "best_epoch" if report["headline"] == "val_best" else "epochs"
    return {role: model[key] for role, model in report["models"].items() if key in model}  # type: ignore[literal-required]


def pair_of(report: Report) -> str:
    """`resnet56 -> resnet20, cifar100`."""
    names = [
        report["models"][role].get("name", "") for role in ("teacher", "student") if role in report["models"]
    ]
    return f"{' → '.join(filter(None, names))}, {report['dataset']['name']}"


def _confusion(folder: Path, report: Report, kept: answers.Answers, again: bool) -> list[str]:
    matrices = matrices_of(report, kept)
    there = (folder / CONFUSION).exists()
    if not matrices or (there and not (again and matrices.keys() == report["models"].keys())):
        return []
    plots.confusion(folder / CONFUSION, matrices, list(map(str, kept["classes"])))
    return [CONFUSION]


def matrices_of(report: Report, kept: answers.Answers) -> dict[str, NDArray[np.int64]]:
    """By role, the confusion matrix (K, K) on test, of the roles whose answers are kept."""
    return {role: one for role in roles(report) if (one := answers.confusion(kept, role)) is not None}


def _sheets(folder: Path, kept: answers.Answers, again: bool) -> list[str]:
    """The pictures made of images. One of an earlier evaluation is removed if there is nothing to show."""
    images, drawn = thumbnails.read(folder), list[str]()
    for name in (ERRORS, KNOWLEDGE):
        if (folder / name).exists() and not again:
            continue
        (folder / name).unlink(missing_ok=True)
        if name == ERRORS and (sheet := sheets.errors_of(kept, images)):
            sheets.errors(folder / name, sheet)
            drawn.append(name)
        if name == KNOWLEDGE and (content := sheets.knowledge_of(kept, images)):
            sheets.knowledge(folder / name, content)
            drawn.append(name)
    return drawn


def page(folder: Path, report: Report) -> None:
    """Writes report.md, with the pictures that are there."""
    there = [name for name in NAMES if (folder / name).exists()]
    write_text(folder / "report.md", markdown.markdown(report, there))
