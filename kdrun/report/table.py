"""The table of a run and its verdict, on a terminal or as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from itertools import compress

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from kdrun.figures import ABSENT
from kdrun.report.caption import caption
from kdrun.report.rows import rows
from kdrun.report.schema import ROLES, Report, called, controls, roles, teachers
from kdrun.report.verdict import at_chance, verdict

COLOURS = {"better": "green", "worse": "red", "no measurable difference": "yellow"}


NAMES = 13
"""The least width for the names of figures; with less, each name stands above its figures."""

MIN_WIDTH = 10
"""Columns of a role, at least."""

CACHED = " (cached)"
"""What the time of a training that was not made now ends with; the first to go if there is no room."""


def render(report: Report, width: int = 80) -> RenderableType:
    """What `Console.print` shows at the end of a run, on `width` columns: caption, table, verdict."""
    style = COLOURS.get("worse" if at_chance(report) else report.get("comparison", {}).get("verdict", ""), "")
    about = Text("\n".join(caption(report)), style="dim")
    return Group(about, Text(), table(report, width), Text(), Text(verdict(report), style=style))


def table(report: Report, width: int = 80) -> Table:
    """One row per figure, one column per role, numbers on the right. Of the roles between teacher and student
    only the last, which taught the student, is shown.

    In a narrow terminal the name of each figure stands above it.
    """
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    every = roles(report)
    between = [role for role in every if role not in (*ROLES, *teachers(report), *controls(report))]
    shown = [role not in between[:-1] for role in every]
    names = [called(report, role) for role in compress(every, shown)]
    lines = [(row.label, row.unit, list(compress(row.cells, shown))) for row in rows(report)]
    units = max((len(unit) for _, unit, _ in lines), default=0)
    if width - 12 * len(names) - units - 4 < NAMES:
        return _narrow(names, lines, width)
    if _natural(names, lines) > width:
        lines = [(label, unit, [cell.removesuffix(CACHED) for cell in cells]) for label, unit, cells in lines]
    grid.add_column("", overflow="fold")
    grid.add_column("", style="dim")
    for name in names:
        grid.add_column(name, justify="right", overflow="fold", min_width=MIN_WIDTH)
    for label, unit, cells in lines:
        grid.add_row(label, unit, *cells)
    return grid


def _natural(names: Sequence[str], lines: Sequence[tuple[str, str, list[str]]]) -> int:
    """The columns of a terminal in which nothing is folded."""
    labels, units = (max((len(line[i]) for line in lines), default=0) for i in (0, 1))
    own = [max(MIN_WIDTH, len(name), *(len(line[2][i]) for line in lines)) for i, name in enumerate(names)]
    return labels + units + sum(own) + 2 * (len(names) + 1)


def _narrow(names: Sequence[str], lines: Sequence[tuple[str, str, list[str]]], width: int) -> Table:
    """One column: a name, and below it the figures of all roles; a figure that is too long is left out."""
    room = width // len(names)
    grid = Table(box=None, pad_edge=False, padding=0, header_style="bold")
    grid.add_column("".join(f"{name[: room - 1]:>{room}}" for name in names), overflow="fold")
    for label, unit, cells in lines:
        short = [cell.removesuffix(CACHED) for cell in cells]
        figures = [cell if len(cell) < room else ABSENT for cell in short]
        grid.add_row(f"{label}, {unit}" if unit else label)
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
