"""ranked.png: the settings of a sweep as a list, the best first, each with its interval."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kdrun.figures import interval, percent, plural, signed
from kdrun.report import sweeps
from kdrun.report.plots import COLOURS, dress, new_figure, save, shortened
from kdrun.report.statistics import SeedVerdict
from kdrun.report.sweep_table import short_names
from kdrun.report.sweep_verdict import comparisons, whom
from kdrun.report.sweeps import JobRecord, Setting
from kdrun.report.verdict import JOINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADES = {"BEATS": COLOURS["student"], "LOSES": COLOURS["control"]}
UNDECIDED = "#8c8c8c"

TIMES = 3.0
"""The axis ends at this many times the largest mean: intervals over two seeds can be 50 times as wide."""

LONGEST = 41
"""The most letters of a name; a longer one is cut in the middle."""

LETTERS = 12.5
"""Letters of the title that fit in an inch."""


class RankedLine(NamedTuple):
    """A line of the list. ends: of its interval; None without one. verdict: None if there is no test."""

    name: str
    mean: float
    ends: tuple[float, float] | None
    verdict: SeedVerdict | None


def ranked(path: Path, jobs: Sequence[JobRecord]) -> None:
    """Gains over the control on test with their 95 % intervals; without controls, the student's top-1.

    Raises ValueError if no setting has a figure.
    """
    settings = sweeps.settings(jobs)
    gains = any(sweeps.spread(setting, "gain", "test") is not None for setting in settings)
    lines = sorted(gain_lines(settings) if gains else accuracy_lines(settings), key=lambda line: line.mean)
    if not lines:
        raise ValueError("no setting has a figure")
    longest = max(len(shortened(line.name, LONGEST)) for line in lines)
    width = 5.6 + 0.085 * longest
    figure = new_figure(width, max(0.27 * len(lines) + 1.35, 2.2))
    axes = figure.add_subplot()
    low, high = _ends(lines, gains)
    for row, line in enumerate(lines):
        _draw(axes, row, line, (low, high), gains)
    axes.set_xlim(low, high)
    axes.set_ylim(-0.7, len(lines) - 0.3)
    axes.set_yticks(range(len(lines)), [shortened(line.name, LONGEST) for line in lines], fontsize=9)
    dress(axes, "", "points" if gains else "%")
    title = textwrap.fill(_title(settings, gains), int(LETTERS * width))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    if gains:
        axes.axvline(0, color="#555555", linewidth=1)
        _explain(axes, lines, whom(settings))
    save(figure, path)


def gain_lines(settings: Sequence[Setting]) -> Iterator[RankedLine]:
    """A line for each setting with a gain. With several seeds: the interval over seeds, and the verdict with
    Holm's correction over all settings. With one seed: the run's own interval, over the test images.
    """
    names = short_names(settings)
    for name, setting, one in zip(names, settings, comparisons(settings), strict=True):
        if one is not None and one.gain.n > 1:
            yield RankedLine(name, one.gain.mean, one.interval, one.verdict)
        elif one is not None:
            ends = setting.reports[0].get("comparison", {}).get("gain_interval")
            yield RankedLine(name, one.gain.mean, (ends[0], ends[1]) if ends else None, None)


def accuracy_lines(settings: Sequence[Setting]) -> Iterator[RankedLine]:
    """A line for each setting: the student's top-1 on test, and one standard deviation to both sides."""
    for name, setting in zip(short_names(settings), settings, strict=True):
        one = sweeps.spread(setting, "student", "test")
        if one is not None:
            ends = None if one.std is None else (one.mean - one.std, one.mean + one.std)
            yield RankedLine(name, one.mean, ends, None)


def _draw(axes: Axes, row: int, line: RankedLine, frame: tuple[float, float], gain: bool) -> None:
    colour = SHADES.get(line.verdict or "", UNDECIDED) if gain else COLOURS["student"]
    if line.ends is not None:
        axes.plot([max(line.ends[0], frame[0]), min(line.ends[1], frame[1])], [row, row], color=colour, lw=2)
        for end, edge, marker in zip(line.ends, frame, "<>", strict=True):
            if (end < edge) if marker == "<" else (end > edge):
                axes.plot([edge], [row], marker=marker, color=colour, markersize=6, clip_on=False)
    face = "white" if gain and line.verdict is None else colour
    axes.plot([line.mean], [row], marker="o", color=colour, markerfacecolor=face, markersize=6)
    shown = signed(line.mean) if gain else percent(line.mean)
    if line.ends is not None and gain:
        shown += f"  ({interval(line.ends)})"
    axes.annotate(
        shown,
        (1.02, row),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=8,
        color="#333333",
        annotation_clip=False,
    )


def _ends(lines: Sequence[RankedLine], gains: bool) -> tuple[float, float]:
    """The ends of the axis: it shows all intervals, but not far beyond the means."""
    every = [value for line in lines for value in (line.mean, *(line.ends or ()))]
    if gains:
        bound = TIMES * max(max(abs(line.mean) for line in lines), 1.0)
        low, high = max(min(every), -bound), min(max(every), bound)
        low, high = min(low, 0.0), max(high, 0.0)
    else:
        low, high = min(every), max(every)
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def _title(settings: Sequence[Setting], gains: bool) -> str:
    if not gains:
        return f"top-1 of the student on test, {sweeps.means(settings)}"
    gained = [one for one in comparisons(settings) if one is not None]
    most = max(gained, key=lambda one: one.gain.n)
    over = plural(most.gain.n, most.varied.removesuffix("s")) if most.gain.n > 1 else "test images, one seed"
    return f"gain over {whom(settings)} on test, 95 % interval over {over}"


def _explain(axes: Axes, lines: Sequence[RankedLine], control: str) -> None:
    """A legend for the colours. control: what the student is compared with."""
    from matplotlib.lines import Line2D

    words = {"BEATS": "beats the control", "TIES": "not told apart", "LOSES": "loses to it"}
    if control == JOINT:
        words |= {"BEATS": f"above {control}", "LOSES": "below it"}
    there = [verdict for verdict in words if any(line.verdict == verdict for line in lines)]
    tested = sum(line.verdict is not None for line in lines)
    if there:
        handles = [
            Line2D([], [], color=SHADES.get(verdict, UNDECIDED), marker="o", label=words[verdict])
            for verdict in there
        ]
        title = f"p < 0.05, Holm over {tested}" if tested > 1 else "p < 0.05"
        axes.figure.legend(
            handles=handles,
            title=title,
            loc="outside lower center",
            ncols=3,
            frameon=False,
            fontsize=8,
            title_fontsize=8,
        )
