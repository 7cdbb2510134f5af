"""Pictures of a search: history.png, importance.png, slices.png."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from kdrun.report import sweeps
from kdrun.report.plots import COLOURS, dress, new_figure, save
from kdrun.report.search_table import BY
from kdrun.report.searches import Search, best

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 3
"""Slices in a row."""

LEAST_SHOWN = 1.0
"""Points of accuracy that an axis spans at least."""


def history(path: Path, search: Search) -> None:
    """Validation accuracy of each trial in order, and the best so far. A pruned trial is shown with its
    accuracy when it was stopped. Raises ValueError if no trial is complete.
    """
    from matplotlib.ticker import MaxNLocator

    complete = search.complete
    if not complete:
        raise ValueError("no trial is complete")
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    numbers, means, stds = _points(search, complete)
    bars = stds if any(stds) else None
    axes.errorbar(
        numbers, means, yerr=bars, fmt="o", color=COLOURS["student"], capsize=3, label="complete", zorder=3
    )
    so_far = [best(search.trials[: i + 1]) for i in range(len(search.trials))]
    steps = [(i, fmean(search.trials[at].accuracy)) for i, at in enumerate(so_far, 1) if at is not None]
    axes.step(*zip(*steps, strict=True), where="post", color=COLOURS["control"], label="best so far")
    ends = [mean + sign * std for mean, std in zip(means, stds, strict=True) for sign in (-1, 1)]
    _span(axes, min(ends), max(ends))
    _broken_off(axes, search)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("top-1, %")
    dress(axes, f"the student on validation, {search.over}", "trial")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    save(figure, path)


def _broken_off(axes: Axes, search: Search) -> None:
    """Marks of the pruned trials, at the edge those that lie below the axis, and of the failed ones."""
    bottom = axes.get_ylim()[0]
    numbered = list(enumerate(search.trials, 1))
    last = {i: trial.last for i, trial in numbered if trial.state == "pruned" and trial.last is not None}
    inside = {i: value for i, value in last.items() if value >= bottom}
    below = dict.fromkeys(last.keys() - inside.keys(), bottom)
    failed = dict.fromkeys((i for i, trial in numbered if trial.state == "failed"), bottom)
    for places, mark, colour, label in (
        (inside, "x", COLOURS["teacher"], "pruned, when it was stopped"),
        (below, "v", COLOURS["teacher"], "pruned, below this axis"),
        (failed, "X", "black", "failed"),
    ):
        if places:
            axes.plot(list(places), list(places.values()), mark, color=colour, label=label, clip_on=False)


def importance(path: Path, search: Search) -> None:
    """The importance of each key for being among the best, as bars. Raises ValueError without importance."""
    if not search.importance:
        raise ValueError("no importance")
    keys = list(search.importance)[::-1]
    shares = [100 * search.importance[key] for key in keys]
    figure = new_figure(6.4, 1.4 + 0.4 * len(keys))
    axes = figure.add_subplot()
    bars = axes.barh(keys, shares, color=COLOURS["student"], height=0.6)
    axes.bar_label(bars, fmt="%.0f %%", padding=4)
    axes.set_xlim(0, 1.15 * max(shares))
    dress(axes, "importance for being among the best on validation", f"{BY}, share in %")
    save(figure, path)


def slices(path: Path, search: Search) -> None:
    """Validation accuracy of the complete trials over the values of each key, the most important key first.
    Later trials are darker, the chosen one has a ring. Raises ValueError if no trial is complete.
    """
    if not search.complete:
        raise ValueError("no trial is complete")
    keys = sorted(search.keys, key=lambda key: -search.importance.get(key, 0.0))
    wide = min(len(keys), ACROSS)
    high = -(-len(keys) // wide)
    figure = new_figure(max(3.6 * wide, 4.8), 3.4 * high)
    for position, key in enumerate(keys):
        axes = figure.add_subplot(high, wide, position + 1)
        _slice(axes, search, key)
        share = search.importance.get(key)
        dress(axes, "" if share is None else f"importance {100 * share:.0f} %", key)
        axes.set_ylabel("top-1 on validation, %" if position % wide == 0 else "")
    figure.supxlabel("light to dark: earlier to later trials; ringed: chosen", fontsize=8)
    save(figure, path)


def _slice(axes: Axes, search: Search, key: str) -> None:
    complete, chosen = search.complete, search.best
    numbers, means, _ = _points(search, complete)
    values = [sweeps.number(search.trials[i].values[key]) for i in complete]
    if all(value is not None for value in values):
        places = [value for value in values if value is not None]
        if key in search.logarithmic:
            _decades(axes, places)
    else:
        names = [sweeps.value_name(search.trials[i].values[key]) for i in complete]
        order = list(dict.fromkeys(names))
        places = [float(order.index(name)) for name in names]
        axes.set_xticks(range(len(order)), order, rotation=30 if max(map(len, order)) > 8 else 0)
        axes.set_xlim(-0.5, len(order) - 0.5)
    axes.scatter(
        places, means, c=numbers, cmap="Blues", vmin=-len(search.trials) / 3, edgecolors="#0b6fb8", zorder=3
    )
    if chosen is not None:
        at = complete.index(chosen)
        axes.plot(places[at], means[at], "o", markersize=12, markerfacecolor="none", markeredgecolor="black")
    _span(axes, min(means), max(means))


def _decades(axes: Axes, places: Sequence[float]) -> None:
    """Makes the axis logarithmic with plain numbers; below two decades also at 2 and 5."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    subs = (1.0,) if max(places) >= 100 * min(places) else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _points(search: Search, positions: Sequence[int]) -> tuple[list[int], list[float], list[float]]:
    """Numbers of trials, means, and standard deviations, 0 for one repeat."""
    spreads = [(i, spread) for i in positions if (spread := search.trials[i].spread)]
    means, stds = [s.mean for _, s in spreads], [s.std or 0.0 for _, s in spreads]
    return [i + 1 for i, _ in spreads], means, stds


def _span(axes: Axes, low: float, high: float) -> None:
    """Limits the axis to low and high with a margin, so that trials pruned far below do not compress it."""
    margin = max(LEAST_SHOWN, high - low) * 0.15
    axes.set_ylim(low - margin, high + margin)
