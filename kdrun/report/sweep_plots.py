"""The pictures of a sweep: which fit its keys, and those over numbers: heatmap.png for two keys, lines.png
for one, label_savings.png for the number of labels. Seeds do not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdrun.figures import plural
from kdrun.report import label_savings, sweeps
from kdrun.report.pareto_plot import pareto
from kdrun.report.plots import COLOURS, dress, fade, new_figure, save
from kdrun.report.ranked_plot import ranked
from kdrun.report.schema import PartName
from kdrun.report.sweep_table import FAILED, title
from kdrun.report.sweeps import JobRecord, Setting, What, spread_text
from kdrun.report.tradeoff import models_differ

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICK_ROOM = 0.055
"""The least distance between two tick labels, as a share of the axis."""

NARROW = 10
"""Columns of a heatmap above which cells show the mean alone."""

MARKED = "framed: best student on validation (thick), or at most one standard error below it"
"""The legend of a heatmap's frames."""


Draw = Callable[[Path, Sequence[JobRecord]], None]

NAMES = ("heatmap.png", "lines.png", "pareto.png", "ranked.png", "label_savings.png")


def draw(folder: Path, jobs: Sequence[JobRecord]) -> list[str]:
    """Draws into the folder, and removes the pictures of an earlier call; the names of the drawn ones."""
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)
    pictures = dict(fitting(jobs))
    for name, picture in pictures.items():
        picture(folder / name, jobs)
    return list(pictures)


def fitting(jobs: Sequence[JobRecord]) -> Iterator[tuple[str, Draw]]:
    """Two swept numbers: a heat map. One: a line with its band. Several student models: accuracy over latency
    and size. Methods, and any other sweep of several settings: a ranked list. Numbers of labels: those saved.
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
    if label_savings.curves(jobs) is not None:
        yield "label_savings.png", labels


def numeric(jobs: Sequence[JobRecord]) -> tuple[str, ...]:
    """The swept keys if all their values are numbers, else nothing: the axes of a plot."""
    settings, keys = sweeps.settings(jobs), sweeps.swept(jobs)
    words = any(sweeps.number(setting.values[key]) is None for setting in settings for key in keys)
    return () if words else keys


def heatmap(path: Path, jobs: Sequence[JobRecord]) -> None:
    """The gain over the control (without controls: the student's accuracy) by two swept numbers, as a grid
    of cells with mean and std. On validation if there is such a part, else on test; the title says which.
    Raises ValueError for other sweeps."""
    keys = numeric(jobs)
    if len(keys) != 2:
        raise ValueError("a heatmap needs exactly two swept numbers")
    settings, part = sweeps.settings(jobs), sweeps.shown_part(jobs)
    what = sweeps.shown_figure(jobs, part)
    rows, columns = (sweeps.values_of(settings, key) for key in keys)
    wide = 1.25 if len(columns) <= NARROW else 0.6
    figure = new_figure(max(wide * len(columns) + 2.2, 6.4), max(0.62 * len(rows) + 1.9, 3.4))
    axes = figure.add_subplot()
    at = [(rows.index(_name(s, keys[0])), columns.index(_name(s, keys[1]))) for s in settings]
    _paint(axes, settings, at, (len(rows), len(columns)), what, part)
    if _frame(axes, settings, at):
        figure.supxlabel(MARKED, fontsize=8)
    axes.set_xticks(range(len(columns)), [_rounded(name) for name in columns])
    axes.set_yticks(range(len(rows)), [_rounded(name) for name in rows])
    axes.set_xlabel(keys[1])
    axes.set_ylabel(keys[0])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    words = "\n".join(title(settings, part, what))
    words = words if len(columns) <= NARROW else words.replace("mean +- std", "mean", 1)
    axes.set_title(words, fontsize=10, loc="left")
    save(figure, path)


def lines(path: Path, jobs: Sequence[JobRecord]) -> None:
    """Student, control and teacher over one swept number: means, with a band of one std. On validation if
    there is such a part, else on test; the title says which. Raises ValueError for other sweeps."""
    keys = numeric(jobs)
    if len(keys) != 1:
        raise ValueError("lines need exactly one swept number")
    settings, part = sweeps.settings(jobs), sweeps.shown_part(jobs)
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    places = [sweeps.number(setting.values[keys[0]]) or 0.0 for setting in settings]
    for role in ("teacher", "student", "control"):
        _curve(axes, role, places, settings, part)
    _mark_chosen(axes, places, settings, part)
    if min(places) > 0 and max(places) >= 8 * min(places):
        axes.set_xscale("log")
        axes.minorticks_off()
    ticks = _apart(places, axes.get_xscale() == "log")
    axes.set_xticks(ticks, [f"{place:g}" for place in ticks])
    axes.set_ylabel("top-1, %")
    dress(axes, f"top-1 on {part}, {sweeps.means(settings)}", keys[0])
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    save(figure, path)


def labels(path: Path, jobs: Sequence[JobRecord]) -> None:
    """The accuracy of student and control over the number of labels, and the labels saved. Raises ValueError
    for other sweeps."""
    measured = label_savings.curves(jobs)
    if measured is None:
        raise ValueError("saved labels need a sweep over labels")
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    shares = 100 * measured.labels / measured.images
    curves = (("student", "distilled", measured.student), ("control", "trained alone", measured.control))
    for role, name, values in curves:
        std = values.std(1, ddof=1) if values.shape[1] > 1 else 0 * values[:, 0]
        style: dict[str, Any] = {"linewidth": 1.6, "capsize": 3, "marker": "o", "markersize": 4}
        axes.errorbar(shares, values.mean(1), yerr=std, color=COLOURS[role], label=name, **style)
    _draw_savings(axes, measured)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(shares, [f"{share:.3g}" for share in shares])
    axes.set_ylabel("top-1 on test, %")
    over = plural(measured.student.shape[1], "run" if measured.varied == "split" else "seed")
    dress(axes, f"mean and std of {over}", f"labels, % of {measured.images:,} training images")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save(figure, path)


def _draw_savings(axes: Axes, measured: label_savings.Curves) -> None:
    """A line from the student's labels to the control's of equal accuracy, with the share that is saved."""
    savings = label_savings.savings(measured)
    for number, saving in enumerate(s for s in savings if s.side == 0 and s.saved > 0):
        level = measured.student.mean(1)[list(measured.labels).index(saving.labels)]
        ends = [100 * labels / measured.images for labels in (saving.labels, saving.alone)]
        label = "labels saved" if number == 0 else None
        axes.plot(ends, [level, level], color="black", linewidth=1.0, linestyle=":", label=label)
        middle, text = (math.sqrt(ends[0] * ends[1]), level), f"{100 * saving.saved:.0f} %"
        axes.annotate(text, middle, (0, -11), textcoords="offset points", ha="center", fontsize=8)


def _rounded(name: str) -> str:
    """`0.08333` for 0.08333333333333333."""
    return name if len(name) <= 7 else f"{float(name):.4g}"


def _apart(places: Sequence[float], log: bool) -> list[float]:
    """The places that get a tick, in order: those far enough from the tick before."""
    at = [math.log(place) if log else place for place in sorted(places)]
    least = TICK_ROOM * (at[-1] - at[0])
    kept: list[int] = []
    for i, place in enumerate(at):
        if not kept or place - at[kept[-1]] >= least:
            kept.append(i)
    return [sorted(places)[i] for i in kept]


def _paint(
    axes: Axes,
    settings: Sequence[Setting],
    at: Sequence[tuple[int, int]],
    shape: tuple[int, int],
    what: What,
    part: PartName,
) -> None:
    spreads = [sweeps.spread(setting, what, part) for setting in settings]
    means = np.full(shape, np.nan)
    for place, spread in zip(at, spreads, strict=True):
        means[place] = np.nan if spread is None else spread.mean
    if what == "gain":  # white is no gain, blue a gain, orange a loss
        bound = 1.4 * np.nanmax(np.abs(means), initial=0.1)
        axes.imshow(
            means, cmap=fade(COLOURS["control"], COLOURS["student"]), vmin=-bound, vmax=bound, aspect="auto"
        )
    else:
        axes.imshow(means, cmap=fade(COLOURS["student"]), aspect="auto", alpha=0.6)
    axes.set_facecolor("#eeeeee")
    for (row, column), spread in zip(at, spreads, strict=True):
        shown = spread if spread is None or shape[1] <= NARROW else spread._replace(std=None)
        text = FAILED if shown is None else spread_text(shown, what)
        axes.text(column, row, text, ha="center", va="center", fontsize=10 if shape[1] <= NARROW else 8)


def _frame(axes: Axes, settings: Sequence[Setting], at: Sequence[tuple[int, int]]) -> bool:
    """Frames the best setting and those within the noise of it; False if none is chosen."""
    from matplotlib.patches import Rectangle

    chosen = sweeps.choice(settings)
    if chosen is None:
        return False
    for position in chosen.within:
        row, column = at[position]
        width = 3.0 if position == chosen.best else 1.4
        corner = (column - 0.46, row - 0.44)
        axes.add_patch(Rectangle(corner, 0.92, 0.88, fill=False, edgecolor="black", linewidth=width))
    return True


def _curve(
    axes: Axes, role: What, places: Sequence[float], settings: Sequence[Setting], part: PartName
) -> None:
    points = [
        (place, spread)
        for place, setting in zip(places, settings, strict=True)
        if (spread := sweeps.spread(setting, role, part))
    ]
    if not points:
        return
    places, means = [x for x, _ in points], [spread.mean for _, spread in points]
    stds = [spread.std or 0.0 for _, spread in points]
    axes.plot(places, means, color=COLOURS[role], label=role, linewidth=1.6, marker="o", markersize=4)
    if any(stds):
        low, high = ([m + side * s for m, s in zip(means, stds, strict=True)] for side in (-1, 1))
        axes.fill_between(places, low, high, color=COLOURS[role], alpha=0.14, linewidth=0)
    if len(points) == 1:  # a band over one point is invisible
        axes.errorbar(places, means, yerr=stds, color=COLOURS[role], capsize=3)


def _mark_chosen(axes: Axes, places: Sequence[float], settings: Sequence[Setting], part: PartName) -> None:
    chosen = sweeps.choice(settings)
    if chosen is None:
        return
    marked = sorted(chosen.within)
    means = [spread.mean for i in marked if (spread := sweeps.spread(settings[i], "student", part))]
    axes.plot(
        [places[i] for i in marked],
        means,
        marker="o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor="black",
        linestyle="none",
        label="best, or within the noise of it",
    )


def _name(setting: Setting, key: str) -> str:
    return sweeps.value_name(setting.values[key])
