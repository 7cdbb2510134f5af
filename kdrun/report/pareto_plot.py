"""pareto.png: accuracy over latency and over size, for sweeps over different student models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdrun.figures import short, three_digits
from kdrun.report import sweeps, tradeoff
from kdrun.report.label_places import write_names
from kdrun.report.plots import COLOURS, as_written, dress, new_figure, save
from kdrun.report.sweep_table import short_names
from kdrun.report.sweeps import JobRecord, Setting
from kdrun.report.tradeoff import Cost, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED_UP_TO, LONGEST = 12, 30
"""Names stand beside the points up to so many points and letters; else numbers do, with a list of names."""

LINES = 30
"""Names below each other in the list."""


def pareto(path: Path, jobs: Sequence[JobRecord]) -> None:
    """A panel for each cost that was measured: students, controls (hollow), teachers, the Pareto front. On
    validation if there is such a part, else on test; the title says which. Raises ValueError if no cost is
    known.
    """
    settings, part = sweeps.settings(jobs), sweeps.shown_part(jobs)
    points = tradeoff.points(settings, part)
    costs = tradeoff.costs(points)
    if not costs:
        raise ValueError("no student of which a cost is known")
    names = [short_names(settings)[point.position] for point in points]
    listed = len(points) > NAMED_UP_TO or max(map(len, names)) > LONGEST
    columns = -(-len(points) // LINES) if listed else 0
    beside = columns * (0.075 * max(map(len, names)) + 0.5)
    figure = new_figure(5.4 * len(costs) + beside, 4.6)
    labels = [str(number) for number in range(1, len(points) + 1)] if listed else names
    panels = [figure.add_subplot(1, len(costs), i + 1) for i in range(len(costs))]
    for axes, cost in zip(panels, costs, strict=True):
        _panel(axes, cost, points, settings)
        title = f"over latency: {tradeoff.measured_on(settings)}" if cost == "latency" else "over size"
        dress(axes, title, "ms" if cost == "latency" else "parameters")
    panels[0].set_ylabel("top-1, %")
    figure.suptitle(f"top-1 on {part}, {sweeps.means(settings)}", x=0.01, ha="left", fontsize=11)
    _legend(figure, panels[0])
    if listed:
        _list(figure, names, columns, beside)
    with as_written(figure):
        figure.canvas.draw()  # which settles the layout that names are placed in
    figure.set_layout_engine("none")
    for axes, cost in zip(panels, costs, strict=True):
        known = [
            (x, p, name) for p, name in zip(points, labels, strict=True) if (x := p.cost(cost)) is not None
        ]
        write_names(axes, [(x, p.accuracy.mean) for x, p, _ in known], [name for *_, name in known])
    save(figure, path)


def _panel(axes: Axes, cost: Cost, points: Sequence[Point], settings: Sequence[Setting]) -> None:
    known = [(x, point) for point in points if (x := point.cost(cost)) is not None]
    teachers = tradeoff.teachers(settings, points, cost)
    for x, point in known:
        if point.control is not None:
            axes.plot([x, x], [point.accuracy.mean, point.control.mean], color="#cccccc", lw=1, zorder=1)
    _dots(axes, [(x, p.control.mean) for x, p in known if p.control], "control")
    _dots(axes, teachers, "teacher")
    spread = [point.accuracy.std or 0.0 for _, point in known]
    xs, ys = [x for x, _ in known], [point.accuracy.mean for _, point in known]
    if any(spread):
        axes.errorbar(xs, ys, yerr=spread, fmt="none", ecolor=COLOURS["student"], elinewidth=1, alpha=0.6)
    on = tradeoff.front(points, cost)
    best = sorted((x, point.accuracy.mean) for x, point in known if point.position in on)
    (line,) = axes.plot(*zip(*best, strict=True), color=COLOURS["student"], lw=1.4, label="front", zorder=2)
    line.set(marker="o", markersize=12, markerfacecolor="none")  # a front of one point is seen, too
    _dots(axes, list(zip(xs, ys, strict=True)), "student")
    _scale(axes, [*xs, *(x for x, _ in teachers)])
    axes.margins(x=0.12, y=0.12)


def _dots(axes: Axes, at: Sequence[tuple[float, float]], role: str) -> None:
    """The dots of a role; controls are hollow."""
    if at:
        (dots,) = axes.plot(*zip(*at, strict=True), "s" if role == "teacher" else "o", markersize=7, zorder=3)
        face = "white" if role == "control" else COLOURS[role]
        dots.set(markerfacecolor=face, markeredgecolor=COLOURS[role], label=role)


def _scale(axes: Axes, costs: Sequence[float]) -> None:
    """A logarithmic axis where costs differ by more than a factor of four, with ticks at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    if max(costs) > 4 * min(costs) > 0:
        axes.set_xscale("log")
        wide = max(costs) > 300 * min(costs)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=12))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.minorticks_off()


def _tick(value: float) -> str:
    """`50 k`, `0.2`, `0`: without trailing zeros."""
    if value >= 1000:
        number, unit = short(value).split(" ")
        return f"{float(number.replace(',', '')):g} {unit}"
    return f"{float(three_digits(value).replace(',', '')):g}"


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    drawn = dict(zip(labels, handles, strict=True))
    names = [name for name in ("teacher", "student", "control", "front") if name in drawn]
    style: dict[str, Any] = {"ncols": 4, "frameon": False, "fontsize": 9}
    figure.legend([drawn[name] for name in names], names, loc="outside lower center", **style)


def _list(figure: Figure, names: Sequence[str], columns: int, wide: float) -> None:
    """The names by their numbers, to the right of the panels."""
    share = wide / figure.get_figwidth()
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1 - share, 1))  # type: ignore[call-arg]
    lines = [f"{number:>2}  {name}" for number, name in enumerate(names, 1)]
    for column in range(columns):
        text = "\n".join(lines[column * LINES : (column + 1) * LINES])
        x = 1 - share + share * column / columns + 0.01
        figure.text(x, 0.94, text, va="top", fontsize=8, linespacing=1.2, color="#333333")
