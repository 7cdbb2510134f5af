"""Pictures of a run: curves.png and confusion.png; and what all pictures share.

matplotlib is used without pyplot, which takes longer to import and keeps figures alive.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdrun import terminal
from kdrun.artefacts import write_whole
from kdrun.config.choices import shown_beside, shown_role
from kdrun.report.curve_panels import Panel, Rows, one_is_long, panels
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

RIGHT, WRONG = "#0b6fb8", "#d9480b"
"""Of right and wrong answers."""

TERMS = ("#0b6fb8", "#7a3e9d", "#2a9d5c", "#b8336a", "#8a6d00", "#4c5a67")
DPI = 100
NUMBERS_UP_TO = 20
"""Up to so many classes a confusion matrix shows the count in each cell and the name of each class."""

ACROSS = 3
"""Matrices beside each other; more of them are below."""

NAMES_WIDE = 3.2
"""Inches for the names of confused pairs."""


def curves(path: Path, rows: Rows, title: str = "", headlines: Mapping[str, int] | None = None) -> None:
    """Validation, losses, the student's terms and the learning rate over epochs, from the rows of
    metrics.jsonl.

    Only panels for which there are figures are drawn (no validation part: no such panel). headlines: by
    model, the epoch whose weights the report is about; it is marked. Raises ValueError without rows.
    """
    from matplotlib.ticker import MaxNLocator

    drawn, long = panels(rows, headlines or {}), one_is_long(rows)
    if not drawn:
        raise ValueError("no epoch to draw")
    wide = 2 if len(drawn) in (2, 4) else min(3, len(drawn))
    high = -(-len(drawn) // wide)
    figure = new_figure(5.0 * wide, 3.6 * high + (0.35 if title else 0))
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)
    for position, panel in enumerate(drawn):
        axes = figure.add_subplot(high, wide, position + 1)
        _panel(axes, panel, long)
        if long:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        dress(axes, panel.title, "epoch")
    save(figure, path)


def confusion(path: Path, matrices: Mapping[str, Any], classes: Sequence[str]) -> None:
    """One panel per role: rows are the true classes, columns the answers. Right answers are blue, wrong ones
    orange; the shade is the share of the true class.

    matrices: role -> (K, K) counts, anything numpy can read. Up to NUMBERS_UP_TO classes the cells show their
    counts; with more, the pairs that the student confuses most are listed beside the panels.
    """
    few = len(classes) <= NUMBERS_UP_TO
    size = max(0.42 * len(classes) + 1.6, 4.8) if few else 5.6
    across = min(len(matrices), ACROSS)
    down = -(-len(matrices) // across)
    widths = [size] * across + ([] if few else [NAMES_WIDE])
    figure = new_figure(sum(widths), size * down)
    grid = figure.add_gridspec(down, len(widths), width_ratios=widths)
    for position, (role, matrix) in enumerate(matrices.items()):
        counts = np.asarray(matrix, dtype=np.int64)
        axes = figure.add_subplot(grid[divmod(position, across)])
        _shade(axes, counts)
        if few:
            _write_counts(axes, counts)
        _name_classes(axes, classes, rows_too=position % across == 0)
        right = 100 * np.trace(counts) / max(counts.sum(), 1)
        axes.set_title(
            f"{shown_beside(role, matrices)}: {right:.1f} % right", color=colour_of(role), fontsize=11
        )
    if not few:
        _name_pairs(figure.add_subplot(grid[:, -1]), matrices, classes)
    figure.suptitle("test part: true class (rows) and answer (columns)", fontsize=11)
    save(figure, path)


def _name_pairs(axes: Axes, matrices: Mapping[str, Any], classes: Sequence[str]) -> None:
    """The pairs of classes that the student (else the first role) confuses most, with their counts."""
    role = "student" if "student" in matrices else next(iter(matrices))
    most = pairs(np.asarray(matrices[role], dtype=np.int64), classes)
    axes.axis("off")
    axes.set_title(f"{role}: most confused", color=colour_of(role), fontsize=11, loc="left")
    for place, pair in enumerate(most):
        text = f"{pair['images']:>4,}  {shortened(pair['truth'], 18)} → {shortened(pair['answer'], 18)}"
        axes.text(0, 1 - (place + 0.5) / PAIRS, text, fontsize=8, va="center")


def _panel(axes: Axes, panel: Panel, long: bool) -> None:
    for line, colour in zip(panel.lines, line_colours(panel), strict=True):
        marker = "o" if len(line.epochs) == 1 and line.role else None  # a line through one point is invisible
        axes.plot(
            line.epochs,
            line.values,
            "--" if line.dashed else "-",
            color=colour,
            label=line.name,
            linewidth=1.6,
            marker=marker,
        )
        if line.marked is not None:
            at = line.marked
            axes.plot([line.epochs[at]], [line.values[at]], "o", color=colour, markersize=6)
    if panel.bottom is not None:
        axes.set_ylim(bottom=panel.bottom)
    if panel.is_log():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel(panel.unit)
    if panel.unit == "%":
        axes.legend(frameon=False, loc="upper left" if long else "lower right")
    else:
        axes.legend(frameon=False)


def line_colours(panel: Panel) -> list[str]:
    """A colour for each line: its role's, or one of TERMS."""
    return [
        colour_of(line.role) if line.role else TERMS[i % len(TERMS)] for i, line in enumerate(panel.lines)
    ]


def colour_of(role: str) -> str:
    """The colour of a role. Roles between teacher and student take theirs by the number in their name, each
    of several teachers by its letters.
    """
    digits = "".join(filter(str.isdigit, role))
    number = sum(role.encode()) if role.startswith("teacher_") else int(digits or 1)
    return (COLOURS | CONTROLS).get(shown_role(role), BETWEEN[(number - 1) % len(BETWEEN)])


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
    axes.imshow(np.where(diagonal, np.sqrt(share), np.nan), cmap=fade(RIGHT), vmin=0, vmax=1.25)
    axes.imshow(np.where(diagonal, np.nan, np.sqrt(share)), cmap=fade(WRONG), vmin=0, vmax=0.6)


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
    few, count = len(classes) <= NUMBERS_UP_TO, len(classes)
    # Class numbers are 10 apart for a hundred classes, 100 apart for a thousand.
    at = list(range(0, count, 1 if few else max(5, int(10 ** (len(str(count - 1)) - 1)))))
    names = [shortened(classes[i]) if few else str(i) for i in at]
    # Eight points are about 0.075 inches a letter: level names must fit into their columns.
    slanted = few and max(map(len, names)) * len(names) > 55
    axes.set_xticks(at, names, rotation=45 if slanted else 0, ha="right" if slanted else "center", fontsize=8)
    axes.set_yticks(at, names if rows_too else [""] * len(at), fontsize=8)
    axes.tick_params(length=0 if few else 3)
    axes.set_xlabel("" if few else "class number", fontsize=8)


def shortened(name: str, length: int = 14) -> str:
    """A name of at most so many columns, without its middle: names often differ at their ends."""
    return terminal.shortened(drawable(name), length, "…")


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
