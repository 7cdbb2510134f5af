"""Interactive charts, drawn by Bokeh in the browser: what curves.png, confusion.png and pareto.png show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from bokeh.document import Document
from bokeh.models import (
    BasicTicker,
    BoxZoomTool,
    ColumnDataSource,
    HoverTool,
    NumeralTickFormatter,
    PanTool,
    PlainText,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.plotting import figure as new_figure
from bokeh.resources import Resources
from numpy.typing import NDArray

from kdrun.config.choices import shown_beside
from kdrun.report import sweeps, tradeoff
from kdrun.report.curve_panels import Panel, Rows, one_is_long, panels
from kdrun.report.plots import COLOURS, NUMBERS_UP_TO, RIGHT, WRONG, colour_of, line_colours, shortened
from kdrun.report.sheets import Knowledge, bar_colours
from kdrun.report.sweep_table import short_names
from kdrun.report.sweeps import JobRecord, Setting
from kdrun.report.thumbnails import TEMPERATURES
from kdrun.report.tradeoff import Cost, Point


class LegendKey(NamedTuple):
    """A name in the legend, with its colour; a click hides what is tagged with the name."""

    name: str
    colour: str


class Chart(NamedTuple):
    """A figure of Bokeh with its title and legend, which the page writes. colour: of the title."""

    title: str
    figure: Any
    legend: Sequence[LegendKey] = ()
    colour: str = ""


Charts = dict[str, Chart]
"""Charts by the name of the element that they are drawn into."""

HIGH = 300
"""The height of a chart in pixels."""


def library() -> str:
    """Bokeh's script, as it ships in the package: the core alone, without widgets and tables."""
    return str(Resources(mode="inline", components=["bokeh"]).js_raw[0])


def as_json(charts: Charts) -> str:
    """What the page hands to Bokeh: `{docs, items}`; empty without charts."""
    if not charts:
        return ""
    document = Document()
    for name, chart in charts.items():
        chart.figure.tags = [name]
        document.add_root(chart.figure)
    roots = {chart.figure.id: name for name, chart in charts.items()}
    items = [{"docid": "charts", "roots": roots, "root_ids": [*roots]}]
    return json.dumps({"docs": {"charts": document.to_json(deferred=False)}, "items": items})


def curves(rows: Rows, headlines: Mapping[str, int]) -> Charts:
    """A chart for each panel of curves.png, all over the same epochs."""
    long, charts = one_is_long(rows), Charts()
    for place, panel in enumerate(panels(rows, headlines)):
        chart = _empty(
            x_axis_type="log" if long else "linear",
            y_axis_type="log" if panel.is_log() else "linear",
            output_backend="svg",
        )
        if charts:
            chart.x_range = charts["curve-0"].figure.x_range
        chart.xaxis.axis_label, chart.yaxis.axis_label = "epoch", panel.unit
        legend = _draw_lines(chart, panel)
        if panel.bottom is not None:
            chart.y_range.start = panel.bottom
        charts[f"curve-{place}"] = Chart(panel.title, chart, legend)
    return charts


def _draw_lines(chart: Any, panel: Panel) -> list[LegendKey]:
    legend = []
    for line, colour in zip(panel.lines, line_colours(panel), strict=True):
        source = ColumnDataSource({"epoch": line.epochs, "value": line.values})
        stroke = chart.line("epoch", "value", source=source, line_color=colour, line_width=2)
        stroke.glyph.line_dash = "dashed" if line.dashed else "solid"
        dots = chart.scatter("epoch", "value", source=source, size=4, fill_color=colour, line_color=None)
        drawn = [stroke, dots]
        if line.marked is not None:
            at = line.marked
            drawn.append(chart.scatter([line.epochs[at]], [line.values[at]], size=10, color=colour))
        legend.append(_key(line.name, colour, drawn))
    _read_out(chart, panel)
    return legend


def _read_out(chart: Any, panel: Panel) -> None:
    """One text for each epoch with the values of all lines: those of each line would cover each other."""
    at: dict[int, dict[str, float]] = {}
    roles = [line.role for line in panel.lines]
    for line in panel.lines:
        name = shown_beside(line.role, roles) if line.role else line.name
        for epoch, value in zip(line.epochs, line.values, strict=True):
            at.setdefault(epoch, {})[name] = value
    epochs = sorted(at)
    texts = [", ".join(f"{name} {value:.4g}" for name, value in at[epoch].items()) for epoch in epochs]
    highest = [max(at[epoch].values()) for epoch in epochs]
    source = ColumnDataSource({"epoch": epochs, "value": highest, "text": texts})
    unseen = chart.line("epoch", "value", source=source, line_alpha=0)
    text = "<div>epoch @epoch: @text</div>"
    chart.add_tools(HoverTool(renderers=[unseen], mode="vline", tooltips=text, line_policy="nearest"))


def _key(name: str, colour: str, drawn: Iterable[Any]) -> LegendKey:
    """Tags what is drawn with a name of the legend."""
    for each in drawn:
        each.tags = [name]
    return LegendKey(name, colour)


def confusion(matrices: Mapping[str, NDArray[np.int64]], classes: Sequence[str]) -> Charts:
    """A matrix for each role; they are zoomed together. Rows are true classes, columns answers; right answers
    are blue, wrong ones orange, the more of the class, the darker.
    """
    charts, count = Charts(), len(classes)
    across, down = Range1d(-0.5, count - 0.5), Range1d(count - 0.5, -0.5)
    for role, counts in matrices.items():
        right = 100 * np.trace(counts) / max(counts.sum(), 1)
        chart = _empty(x_range=across, y_range=down, height=420)
        _cells(chart, counts, classes)
        names = {place: PlainText(shortened(name)) for place, name in enumerate(classes)}
        for axis in (chart.xaxis[0], chart.yaxis[0]):
            axis.major_label_overrides = names
            spaced = BasicTicker(min_interval=1, num_minor_ticks=0)
            axis.ticker = spaced if count > NUMBERS_UP_TO else list(range(count))
        chart.xaxis.major_label_orientation = math.pi / 4 if max(map(len, classes)) > 3 else 0.0
        chart.xaxis.axis_label, chart.yaxis.axis_label = "answer", "true class"
        title = f"{shown_beside(role, matrices)}: {right:.1f} % right"
        charts[f"confusion-{role}"] = Chart(title, chart, colour=colour_of(role))
    return charts


def _cells(chart: Any, counts: NDArray[np.int64], classes: Sequence[str]) -> None:
    """The cells that are not empty. The square root makes rare mistakes visible."""
    truth, answer = np.nonzero(counts)
    number = counts[truth, answer]
    share = number / np.maximum(counts.sum(1), 1)[truth]
    right = truth == answer
    shade = np.where(right, np.sqrt(share) / 1.25, np.sqrt(share) / 0.6).clip(0.06, 1)
    source = ColumnDataSource(
        {
            "x": answer,
            "y": truth,
            "shade": shade,
            "colour": [RIGHT if hit else WRONG for hit in right],
            "images": number,
            "text": [str(value) for value in number],
            "percent": 100 * share,
            "what": [
                f"{classes[row]} right" if row == column else f"{classes[row]} taken for {classes[column]}"
                for row, column in zip(truth.tolist(), answer.tolist(), strict=True)
            ],
        }
    )
    cells = chart.rect(
        "x", "y", 1, 1, source=source, fill_color="colour", fill_alpha="shade", line_color=None
    )
    if len(classes) <= NUMBERS_UP_TO:
        middle = {"text_align": "center", "text_baseline": "middle"}
        chart.text("x", "y", "text", source=source, text_font_size="11px", **middle)
    text = "<div>@what: <b>@images</b> (@percent{0.0} % of the class)</div>"
    chart.add_tools(HoverTool(renderers=[cells], tooltips=text))


def entropy(content: Knowledge) -> Charts:
    """The entropy of the teacher's soft targets over the temperature, as in knowledge.png."""
    if content.entropy is None:
        return {}
    low, mean, high = np.asarray(content.entropy).T
    most = math.log(len(content.classes))
    title = f"entropy of the {content.called}'s soft targets, nats"
    chart = _empty(x_axis_type="log", y_range=Range1d(0, most * 1.08), output_backend="svg")
    source = ColumnDataSource({"t": TEMPERATURES, "low": low, "mean": mean, "high": high})
    band = chart.varea("t", "low", "high", source=source, fill_color=COLOURS["teacher"], fill_alpha=0.25)
    line = chart.line("t", "mean", source=source, line_color=COLOURS["teacher"], line_width=2)
    top = chart.line(
        [TEMPERATURES[0], TEMPERATURES[-1]], [most, most], line_color=COLOURS["teacher"], line_dash="dotted"
    )
    for temperature, colour in zip(content.temperatures, bar_colours(content), strict=True):
        chart.line([temperature] * 2, [0, most], line_color=colour, line_dash="dashed")
    chart.xaxis.axis_label = "temperature"
    chart.xaxis.ticker = [0.5, 1, 2, 4, 8, 20]
    text = "<div>T = @t: <b>@mean{0.000}</b> (8 of 10 images: @low{0.000} to @high{0.000})</div>"
    chart.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=text))
    items = {"mean": line, "8 of 10 images": band, f"uniform: ln {len(content.classes)}": top}
    legend = [_key(name, COLOURS["teacher"], [drawn]) for name, drawn in items.items()]
    return {"entropy": Chart(title, chart, legend)}


def pareto(jobs: Sequence[JobRecord]) -> Charts:
    """Accuracy over each cost that was measured, as in pareto.png; empty if all students are alike."""
    settings, part = sweeps.settings(jobs), sweeps.shown_part(jobs)
    if not tradeoff.models_differ(settings):
        return {}
    points, charts = tradeoff.points(settings, part), Charts()
    for cost in tradeoff.costs(points):
        measured = f"latency: {tradeoff.measured_on(settings)}" if cost == "latency" else "size"
        chart, legend = _over(cost, settings, points)
        charts[f"pareto-{cost}"] = Chart(f"top-1 on {part} over {measured}", chart, legend)
    return charts


def _over(cost: Cost, settings: Sequence[Setting], points: Sequence[Point]) -> tuple[Any, list[LegendKey]]:
    names = short_names(settings)
    known = [(x, point, names[point.position]) for point in points if (x := point.cost(cost)) is not None]
    teachers = [(x, y, "") for x, y in tradeoff.teachers(settings, points, cost)]
    every = [x for x, *_ in (*known, *teachers)]
    wide = max(every) > 4 * min(every) > 0
    chart = _empty(x_axis_type="log" if wide else "linear", output_backend="svg")
    chart.xaxis.axis_label = "ms" if cost == "latency" else "parameters"
    chart.xaxis.formatter = NumeralTickFormatter(format="0.[000]" if cost == "latency" else "0.[0] a")
    chart.yaxis.axis_label = "%"
    on = tradeoff.front(points, cost)
    best = sorted((x, point.accuracy.mean) for x, point, _ in known if point.position in on)
    xs, ys = zip(*best, strict=True)
    blue = COLOURS["student"]
    front = [chart.line(xs, ys, color=blue), chart.scatter(xs, ys, size=16, fill_color=None, line_color=blue)]
    dots = {
        "student": [(x, point.accuracy.mean, name) for x, point, name in known],
        "control": [(x, point.control.mean, name) for x, point, name in known if point.control],
        "teacher": teachers,
    }
    return chart, [_key("front", blue, front), *(_points(chart, role, at) for role, at in dots.items() if at)]


def _points(chart: Any, role: str, at: Sequence[tuple[float, float, str]]) -> LegendKey:
    """The dots of a role; controls are hollow."""
    xs, ys, names = zip(*at, strict=True)
    source = ColumnDataSource({"x": xs, "y": ys, "name": names})
    dots = chart.scatter("x", "y", source=source, size=9, line_color=COLOURS[role])
    dots.glyph.fill_color = None if role == "control" else COLOURS[role]
    dots.glyph.marker = "square" if role == "teacher" else "circle"
    text = f"<div>{role} @name: <b>@y{{0.0}} %</b> at @x{{0,0.[000]}}</div>"
    chart.add_tools(HoverTool(renderers=[dots], tooltips=text))
    return _key(role, COLOURS[role], [dots])


def _empty(height: int = HIGH, **options: Any) -> Any:
    """A chart without anything in it. Until a tool is chosen, a page is scrolled over it; ctrl and the wheel
    zoom.
    """
    wheel = WheelZoomTool(modifiers="ctrl")
    tools = [PanTool(), BoxZoomTool(), wheel, ResetTool()]
    chart = new_figure(
        height=height, sizing_mode="stretch_width", tools=tools, toolbar_location="above", **options
    )
    chart.toolbar_sticky = False
    chart.toolbar.update(logo=None, active_drag=None, active_scroll=wheel)
    chart.update(background_fill_color=None, border_fill_color=None, outline_line_color=None)
    chart.grid.grid_line_alpha = 0.25
    for axis in chart.axis:
        axis.update(major_label_text_font_size="11px", axis_label_text_font_style="normal")
        axis.update(axis_label_text_font_size="12px", minor_tick_line_color=None)
    return chart
