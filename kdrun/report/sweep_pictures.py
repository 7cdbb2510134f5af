"""The choice of pictures for a sweep, by the swept keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kdrun.report import sweeps
from kdrun.report.pareto_plot import pareto
from kdrun.report.ranked_plot import ranked
from kdrun.report.sweep_plots import heatmap, lines, numeric
from kdrun.report.sweeps import Job
from kdrun.report.tradeoff import models_differ

Draw = Callable[[Path, Sequence[Job]], None]

NAMES = ("heatmap.png", "lines.png", "pareto.png", "ranked.png")


def draw(folder: Path, jobs: Sequence[Job]) -> list[str]:
    """Draws into the folder, and removes the pictures of an earlier call; the names of the drawn ones."""
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)
    names = []
    for name, picture in fitting(jobs):
        picture(folder / name, jobs)
        names.append(name)
    return names


def fitting(jobs: Sequence[Job]) -> Iterator[tuple[str, Draw]]:
    """Two swept numbers: a heat map. One: a line with its band. Several student models: accuracy over latency
    and size. Methods, and any other sweep of several settings: a ranked list.
    """
    settings, axes = sweeps.settings(jobs), len(numeric(jobs))
    if not sweeps.reports(jobs):
        return
    differ = models_differ(settings)
    if axes == 2:
        yield "heatmap.png", heatmap
    elif axes == 1:
        yield "lines.png", lines
    if differ:
        yield "pareto.png", pareto
    if "method" in sweeps.swept(jobs) or not (axes in (1, 2) or differ or len(settings) < 2):
        yield "ranked.png", ranked
