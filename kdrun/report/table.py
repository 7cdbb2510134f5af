"""The table of a run and its verdict, on a terminal or as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from itertools import compress

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from kdrun.figures import ABSENT
from kdrun.report import int8
from kdrun.report.caption import caption
from kdrun.report.rows import FigureRow, measured, rows
from kdrun.report.schema import ROLES, Report, called, controls, roles, teachers
from kdrun.report.verdict import tone, verdict
from kdrun.terminal import widest

COLOURS = {"better": "green", "worse": "red", "unclear": "yellow"}

NAMES = 13
"""The least width for the names of figures; with less, each name stands above its figures."""

MIN_WIDTH = 10
"""Columns of a role, at least."""

CACHED = " (cached)"
"""What the time of a training that was not made now ends with; the first to go if there is no room."""


def render(report: Report, width: int = 80) -> RenderableType:
    """What `Console.print` shows at the end of a run, on `width` columns: caption, table, verdict."""
    style = COLOURS.get(tone(report), "")
    about = Text("\n".join(caption(report)), style="dim")
    own = [Text(), Text("\n".join(int8.lines(report, width)))] if "int8" in report else []
    return Group(about, Text(), table(report, width), *own, Text(), Text(verdict(report), style=style))


def table(report: Report, width: int = 80) -> RenderableType:
    """One row per figure, one column per role, numbers on the right. Of the roles between teacher and student
    only the last, which taught the student, is shown.

    In a narrow terminal the name of each figure stands above it. If names or figures are too long for that,
    the roles are in several tables, one below the other.
    """
    every = roles(report)
    between = [role for role in every if role not in (*ROLES, *teachers(report), *controls(report))]
    shown = [role not in between[:-1] for role in every]
    names = [called(report, role) for role in compress(every, shown)]
    lines = [row._replace(cells=tuple(compress(row.cells, shown))) for row in rows(report)]
    units = widest(line.unit for line in lines)
    most = (width - units - 4 - NAMES) // 12
    if len(names) <= most:
        return _wide(names, lines, width)
    if most < 2 or _fits(names, lines, width // len(names)):
        return _narrow(names, lines, width)
    size = -(-len(names) // -(-len(names) // most))
    parts = [slice(first, first + size) for first in range(0, len(names), size)]
    tables = [
        _wide(names[part], measured(line._replace(cells=line.cells[part]) for line in lines), width)
        for part in parts
    ]
    return Group(*[each for own in tables for each in (own, Text())][:-1])


def _wide(names: Sequence[str], lines: Sequence[FigureRow], width: int) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    if _natural(names, lines) > width:
        lines = [line._replace(cells=_short(line)) for line in lines]
    grid.add_column("", overflow="fold")
    grid.add_column("", style="dim")
    for name in names:
        grid.add_column(name, justify="right", overflow="fold", min_width=MIN_WIDTH)
    for label, unit, cells in lines:
        grid.add_row(label, unit, *cells)
    return grid


def _short(line: FigureRow) -> tuple[str, ...]:
    return tuple(cell.removesuffix(CACHED) for cell in line.cells)


def _fits(names: Sequence[str], lines: Sequence[FigureRow], room: int) -> bool:
    """Whether names and figures stand beside each other in columns of that width."""
    return widest((*names, *(cell for line in lines for cell in _short(line)))) < room


def _natural(names: Sequence[str], lines: Sequence[FigureRow]) -> int:
    """The columns of a terminal in which nothing is folded."""
    labels, units = (widest(str(line[i]) for line in lines) for i in (0, 1))
    own = [max(MIN_WIDTH, widest((name, *(line[2][i] for line in lines)))) for i, name in enumerate(names)]
    return labels + units + sum(own) + 2 * (len(names) + 1)


def _narrow(names: Sequence[str], lines: Sequence[FigureRow], width: int) -> Table:
    """One column: a name, and below it the figures of all roles; a figure that is too long is left out."""
    room = width // len(names)
    grid = Table(box=None, pad_edge=False, padding=0, header_style="bold")
    grid.add_column("".join(f"{name[: room - 1]:>{room}}" for name in names), overflow="fold")
    for line in lines:
        figures = [cell if widest([cell]) < room else ABSENT for cell in _short(line)]
        grid.add_row(f"{line.label}, {line.unit}" if line.unit else line.label)
        grid.add_row("".join(f"{cell:>{room}}" for cell in figures))
    return grid


def text(report: Report, width: int = 80) -> str:
    """The same as plain text: no control characters, no trailing spaces, no line longer than width."""
    return plain(render(report, width), width)


def plain(content: RenderableType, width: int) -> str:
    """Anything that rich can print, as plain text of at most `width` columns."""
    sink = StringIO()
    console = Console(
        file=sink,
        width=width,
        force_terminal=False,
        color_system=None,
        highlight=False,
        legacy_windows=False,
        # Texts contain what users typed: there `[a]` and `:x:` are not markup.
        markup=False,
        emoji=False,
    )
    console.print(content)
    return "".join(f"{line.rstrip()}\n" for line in sink.getvalue().splitlines())
