"""label_savings.png: the student's and the control's accuracy over the labels, and the labels saved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdrun.figures import plural
from kdrun.report.label_savings import Curves, Figures, curves, savings
from kdrun.report.plots import COLOURS, dress, new_figure, save
from kdrun.report.sweeps import Job

NAME = "label_savings.png"


def plot(folder: Path, jobs: Sequence[Job]) -> list[str]:
    """Writes the picture for a sweep over labels, else removes an older one; the names of what is written."""
    path, measured = folder / NAME, curves(jobs)
    path.unlink(missing_ok=True)
    if measured is None:
        return []
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    shares = 100 * measured.labels / measured.images
    for role, values in (("student", measured.student), ("control", measured.control)):
        name = "distilled" if role == "student" else "trained alone"
        axes.errorbar(
            shares,
            values.mean(1),
            yerr=_deviations(values),
            color=COLOURS[role],
            label=name,
            linewidth=1.6,
            capsize=3,
            marker="o",
            markersize=4,
        )
    _draw_savings(axes, measured)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(shares, [f"{share:.3g}" for share in shares])
    axes.set_ylabel("top-1 on test, %")
    dress(axes, f"mean and std of {_repeats(measured)}", f"labels, % of {measured.images:,} training images")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save(figure, path)
    return [NAME]


def _draw_savings(axes: Any, measured: Curves) -> None:
    """A line from the student's labels to the control's of equal accuracy, with the share that is saved."""
    for number, saving in enumerate(s for s in savings(measured) if s.side == 0 and s.saved > 0):
        level = measured.student.mean(1)[list(measured.labels).index(saving.labels)]
        ends = [100 * labels / measured.images for labels in (saving.labels, saving.alone)]
        label = "labels saved" if number == 0 else None
        axes.plot(ends, [level, level], color="black", linewidth=1.0, linestyle=":", label=label)
        axes.annotate(
            f"{100 * saving.saved:.0f} %",
            (math.sqrt(ends[0] * ends[1]), level),
            (0, -11),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )


def _deviations(values: Figures) -> Figures:
    return values.std(1, ddof=1) if values.shape[1] > 1 else 0 * values[:, 0]


def _repeats(measured: Curves) -> str:
    return plural(measured.student.shape[1], "run" if measured.varied == "split" else "seed")
