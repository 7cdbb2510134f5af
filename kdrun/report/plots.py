"""Pictures of a run: curves.png and confusion.png; and what all pictures share.

matplotlib is used without pyplot, which takes longer to import and keeps figures alive.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdrun.artefacts import write_whole
from kdrun.config.choices import is_control, shown_role
from kdrun.report.mistakes import PAIRS, pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

COLOURS = {"teacher": "#6b6b6b", "student": "#0b6fb8", "control": "#d97a0b"}
"""The same for each role in every picture. They also differ in greyscale and for colour-blind readers."""

CONTROLS = {"smoothed": "#b8336a", "teacher_free": "#8a6d00", "self": "#7a3e9d", "longer": "#2a9d5c"}
"""Those of the controls besides the plain one."""

BETWEEN = ("#2a9d5c", "#7a3e9d", "#b8336a", "#8a6d00")
"""Colours of the roles between teacher and student, in order."""

TERMS = ("#0b6fb8", "#7a3e9d", "#2a9d5c", "#b8336a", "#8a6d00", "#4c5a67")
DPI = 100
NUMBERS_UP_TO = 20
"""Up to so many classes a confusion matrix shows the count in each cell and the name of each class."""

LONG = 4
"""A training that has so many times the epochs of every other makes the axis of epochs logarithmic."""

NAMES_WIDE = 3.2
"""Inches for the names of confused pairs."""

Rows = Sequence[Mapping[str, Any]]
Draw = Callable[["Axes", Rows], None]


def curves(path: Path, rows: Rows, title: str = "", headlines: Mapping[str, int] | None = None) -> None:
    """Validation, losses, the student's terms and the learning rate over epochs, from the rows of
    metrics.jsonl.

    Only panels for which there are figures are drawn (no validation part: no such panel). headlines: by
    model, the epoch whose weights the report is about; it is marked. Raises ValueError without rows.
    """
    from matplotlib.ticker import MaxNLocator

    panels = [panel for panel in _panels(headlines or {}) if any(panel[1](row) for row in rows)]
    if not panels:
        raise ValueError("no epoch to draw")
    wide = 2 if len(panels) in (2, 4) else min(3, len(panels))
    high = -(-len(panels) // wide)
    figure = new_figure(5.0 * wide, 3.6 * high + (0.35 if title else 0))
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)
    for position, (name, _, draw) in enumerate(panels):
        axes = figure.add_subplot(high, wide, position + 1)
        draw(axes, rows)
        if _one_is_long(rows):
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        dress(axes, name, "epoch")
    save(figure, path)


def confusion(
    path: Path, matrices: Mapping[str, Any], classes: Sequence[str], title: str = "test part"
) -> None:
    """One panel per role: rows are the true classes, columns the answers. Right answers are blue, wrong ones
    orange; the shade is the share of the true class.

    matrices: role -> (K, K) counts, anything numpy can read. Up to NUMBERS_UP_TO classes the cells show their
    counts; with more, the pairs that the student confuses most are listed beside the panels.
    """
    few = len(classes) <= NUMBERS_UP_TO
    size = max(0.42 * len(classes) + 1.6, 4.8) if few else 5.6
    widths = [size] * len(matrices) + ([] if few else [NAMES_WIDE])
    figure = new_figure(sum(widths), size)
    grid = figure.add_gridspec(1, len(widths), width_ratios=widths)
    for position, (role, matrix) in enumerate(matrices.items()):
        counts = np.asarray(matrix, dtype=np.int64)
        axes = figure.add_subplot(grid[position])
        _shade(axes, counts)
        if few:
            _write_counts(axes, counts)
        _name_classes(axes, classes, rows_too=position == 0)
        right = 100 * np.trace(counts) / max(counts.sum(), 1)
        axes.set_title(f"{shown_role(role)}: {right:.1f} % right", color=colour_of(role), fontsize=11)
    if not few:
        _name_pairs(figure.add_subplot(grid[-1]), matrices, classes)
    figure.suptitle(f"{title}: true class (rows) and answer (columns)", fontsize=11)
    save(figure, path)


def _one_is_long(rows: Rows) -> bool:
    """Whether one training is so much longer than the others that these would be a stroke at the left."""
    ends = sorted(epochs[-1]["epoch"] for _, epochs in _by_stage(rows))
    return len(ends) > 1 and ends[-1] > LONG * ends[-2]


def _name_pairs(axes: Axes, matrices: Mapping[str, Any], classes: Sequence[str]) -> None:
    """The pairs of classes that the student (else the first role) confuses most, with their counts."""
    role = "student" if "student" in matrices else next(iter(matrices))
    most = pairs(np.asarray(matrices[role], dtype=np.int64), classes, PAIRS)
    axes.axis("off")
    axes.set_title(f"{role}: most confused", color=colour_of(role), fontsize=11, loc="left")
    for place, pair in enumerate(most):
        text = f"{pair['images']:>4,}  {shortened(pair['truth'], 18)} → {shortened(pair['answer'], 18)}"
        axes.text(0, 1 - (place + 0.5) / PAIRS, text, fontsize=8, va="center")


def _validation(axes: Axes, rows: Rows, headlines: Mapping[str, int]) -> None:
    _measured(axes, rows, "top1", headlines, lambda value: f"{value:.1f}")
    values = [value for line in axes.get_lines() for value in _settled(line.get_ydata())]
    axes.set_ylim(bottom=max(0.0, min(values) - 0.1 * (max(values) - min(values)) - 1))
    axes.set_ylabel("%")
    axes.legend(frameon=False, loc="upper left" if _one_is_long(rows) else "lower right")


def _likelihood(axes: Axes, rows: Rows, headlines: Mapping[str, int]) -> None:
    _measured(axes, rows, "nll", headlines, lambda value: f"{value:.3f}")
    axes.set_ylabel("nats")
    _log_if_wide(axes)
    axes.legend(frameon=False)


def _settled(values: Any) -> list[float]:
    """Without the first fifth of the epochs: they would flatten what tells the curves apart."""
    return list(values)[len(values) // 5 :]


def _measured(
    axes: Axes, rows: Rows, figure: str, headlines: Mapping[str, int], text: Callable[[float], str]
) -> None:
    """A figure on validation, with the value at the epoch of the headline, or at the last."""
    for stage, epochs in _by_stage(rows):
        measured = [row for row in epochs if figure in (row.get("validation") or {})]
        values = [row["validation"][figure] for row in measured]
        at = next((i for i, row in enumerate(measured) if row["epoch"] == headlines.get(stage)), None)
        label = shown_role(stage)
        if values:
            epoch = measured[-1 if at is None else at]["epoch"]
            label = f"{shown_role(stage)} {text(values[-1 if at is None else at])}, epoch {epoch}"
        _line(axes, stage, measured, values, label=label)
        if at is not None:
            axes.plot([measured[at]["epoch"]], [values[at]], "o", color=colour_of(stage), markersize=6)


def _loss(axes: Axes, rows: Rows) -> None:
    for stage, epochs in _by_stage(rows):
        _line(axes, stage, epochs, [row["loss"] for row in epochs])
    _log_if_wide(axes)
    axes.legend(frameon=False)


def _terms(axes: Axes, rows: Rows) -> None:
    student = [row for row in rows if row["stage"] == "student"]
    names = dict.fromkeys(name for row in student for name in row.get("terms", {}))
    for name, colour in zip(names, TERMS * len(names), strict=False):
        measured = [row for row in student if name in row.get("terms", {})]
        values = [row["terms"][name] for row in measured]
        axes.plot([row["epoch"] for row in measured], values, color=colour, label=name, linewidth=1.6)
    _log_if_wide(axes)
    axes.legend(frameon=False)


def _rate(axes: Axes, rows: Rows) -> None:
    for stage, epochs in _by_stage(rows):
        # The control's recipe is the student's; dashes keep the line below it visible.
        _line(axes, stage, epochs, [row["lr"] for row in epochs], "--" if is_control(stage) else "-")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _panels(headlines: Mapping[str, int]) -> list[tuple[str, Callable[[Mapping[str, Any]], bool], Draw]]:
    """Title, whether a row has figures for it, and how it is drawn."""
    return [
        (
            "top-1 on validation",
            lambda row: bool(row.get("validation")),
            partial(_validation, headlines=headlines),
        ),
        (
            "NLL on validation",
            lambda row: "nll" in (row.get("validation") or {}),
            partial(_likelihood, headlines=headlines),
        ),
        ("training loss (each its own sum of terms)", lambda row: "loss" in row, _loss),
        (
            "terms of the student",
            lambda row: row["stage"] == "student" and bool(row.get("terms")),
            _terms,
        ),
        ("learning rate", lambda row: "lr" in row, _rate),
    ]


def _by_stage(rows: Rows) -> Iterable[tuple[str, list[Mapping[str, Any]]]]:
    for stage in dict.fromkeys(row["stage"] for row in rows):
        yield stage, [row for row in rows if row["stage"] == stage]


def _line(
    axes: Axes, stage: str, rows: Rows, values: Sequence[float], style: str = "-", label: str = ""
) -> None:
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(epochs) == 1 else None  # a line through one point is invisible
    colour = colour_of(stage)
    axes.plot(
        epochs, values, style, color=colour, label=label or shown_role(stage), linewidth=1.6, marker=marker
    )


def colour_of(role: str) -> str:
    """The colour of a role. Roles between teacher and student take theirs by the number in their name, each
    of several teachers by its letters.
    """
    digits = "".join(filter(str.isdigit, role))
    number = sum(role.encode()) if role.startswith("teacher_") else int(digits or 1)
    return (COLOURS | CONTROLS).get(shown_role(role), BETWEEN[(number - 1) % len(BETWEEN)])


def _log_if_wide(axes: Axes) -> None:
    """Makes the axis logarithmic if all values are positive and span more than a factor of 20."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def dress(axes: Axes, title: str, below: str) -> None:
    """Title, name of the horizontal axis, a light grid and no frame."""
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(below)
    axes.grid(True, color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _shade(axes: Axes, counts: NDArray[np.int64]) -> None:
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    diagonal = np.eye(len(counts), dtype=bool)
    # The square root makes rare mistakes visible: most are a hundredth of their class.
    axes.imshow(np.where(diagonal, np.sqrt(share), np.nan), cmap=fade("#0b6fb8"), vmin=0, vmax=1.25)
    axes.imshow(np.where(diagonal, np.nan, np.sqrt(share)), cmap=fade("#d9480b"), vmin=0, vmax=0.6)


def fade(*ends: str) -> Colormap:
    """A colour map from white to a colour, or from one colour over white to another."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("faded", [*ends[:-1], "#ffffff", ends[-1]])


def _write_counts(axes: Axes, counts: NDArray[np.int64]) -> None:
    for (row, column), number in np.ndenumerate(counts):
        if number:
            weight = "bold" if row == column else "normal"
            axes.text(column, row, f"{number}", ha="center", va="center", fontsize=8, fontweight=weight)


def _name_classes(axes: Axes, classes: Sequence[str], rows_too: bool) -> None:
    few = len(classes) <= NUMBERS_UP_TO
    at = list(range(len(classes))) if few else list(range(0, len(classes), _step(len(classes))))
    names = [shortened(classes[i]) if few else str(i) for i in at]
    # Eight points are about 0.075 inches a letter: level names must fit into their columns.
    slanted = few and max(map(len, names)) * len(names) > 55
    axes.set_xticks(at, names, rotation=45 if slanted else 0, ha="right" if slanted else "center", fontsize=8)
    axes.set_yticks(at, names if rows_too else [""] * len(at), fontsize=8)
    axes.tick_params(length=0 if few else 3)
    axes.set_xlabel("" if few else "class number", fontsize=8)


def _step(count: int) -> int:
    """The step between class numbers along an axis: 10 for a hundred classes, 100 for a thousand."""
    return max(5, int(10 ** (len(str(count - 1)) - 1)))


def shortened(name: str, length: int = 14) -> str:
    """A name of at most so many letters, without its middle: names often differ at their ends."""
    name = drawable(name)
    half = length // 2
    return name if len(name) <= length else f"{name[:half]}…{name[half + 1 - length :]}"


def drawable(text: str) -> str:
    """The text with a sign in place of each byte of a file's name that is no letter."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def new_figure(wide: float, high: float) -> Figure:
    """An empty figure of so many inches, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@contextmanager
def as_written(figure: Figure) -> Iterator[None]:
    """For drawing a figure: names are no mathematics, `$^$` can be a class, and a box stands for a letter
    that the font lacks. Labels of a logarithmic axis are mathematics.
    """
    from matplotlib.text import Text

    axes = (axis for each in figure.axes for axis in (each.xaxis, each.yaxis))
    formulas = {id(text) for axis in axes if axis.get_scale() == "log" for text in axis.findobj(Text)}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(id(text) in formulas)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as PNG, without matplotlib's version in its metadata."""
    draw = partial(figure.savefig, format="png", dpi=DPI, metadata={"Software": None})
    with as_written(figure):
        write_whole(path, draw)
