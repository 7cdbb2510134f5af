"""The pictures of a finished run, drawn from its files: metrics.jsonl, answers.npz and report.json."""

from __future__ import annotations

from pathlib import Path

from kdrun.artefacts import locked, write_text
from kdrun.records import METRICS, read_rows
from kdrun.report import answers, markdown, plots
from kdrun.report.read import read
from kdrun.report.schema import Report, roles

NAMES = CURVES, CONFUSION = markdown.PLOTS


def drawable(folder: Path) -> bool:
    """Whether the confusion is drawn, or can be; runs of earlier versions have kept no answers."""
    return (folder / CONFUSION).exists() or (folder / answers.NAME).exists()


def draw_missing(folder: Path) -> list[str]:
    """Draws what a finished run lacks, and shows it in report.md; the names of the new pictures.

    Raises KdrunError without a report, and OSError for a folder that cannot be written.
    """
    if all((folder / name).exists() for name in NAMES):
        return []
    with locked(folder):
        return draw(folder, read(folder))


def draw(folder: Path, report: Report, again: bool = False) -> list[str]:
    """The pictures for which there is data, and report.md with them; the names of those that were drawn.

    again: also those that are there already. A confusion of more models than there are answers stays.
    """
    drawn = []
    rows, kept = read_rows(folder / METRICS), answers.read(folder)
    if rows and (again or not (folder / CURVES).exists()):  # without: all models come from files
        plots.curves(folder / CURVES, rows)
        drawn.append(CURVES)
    matrices = {role: one for role in roles(report) if (one := answers.confusion(kept, role)) is not None}
    there = (folder / CONFUSION).exists()
    if matrices and (not there or (again and matrices.keys() == report["models"].keys())):
        plots.confusion(folder / CONFUSION, matrices, list(map(str, kept["classes"])))
        drawn.append(CONFUSION)
    if drawn or again:
        page(folder, report)
    return drawn


def page(folder: Path, report: Report) -> None:
    """Writes report.md, with the pictures that are there."""
    there = [name for name in NAMES if (folder / name).exists()]
    write_text(folder / "report.md", markdown.markdown(report, there))
