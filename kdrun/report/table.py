"""The table of a run and its verdict, on a terminal or as plain text."""

from __future__ import annotations

from io import StringIO
from itertools import compress

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from kdrun.report.caption import caption
from kdrun.report.rows import rows
from kdrun.report.schema import ROLES, Report, called, roles
from kdrun.report.verdict import verdict

COLOURS = {"better": "green", "worse": "red", "no measurable difference": "yellow"}


def render(report: Report) -> RenderableType:
    """What `Console.print` shows at the end of a run: caption, table, verdict."""
    style = COLOURS.get(report.get("comparison", {}).get("verdict", ""), "")
    about = Text("\n".join(caption(report)), style="dim")
    return Group(about, Text(), table(report), Text(), Text(verdict(report), style=style))


def table(report: Report) -> Table:
    """One row per figure, one column per role, numbers on the right; of those between teacher and student the
    last, who taught the student.
    """
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    found.add_column("", overflow="fold")
    found.add_column("", style="dim")
    every = roles(report)
    between = [role for role in every if role not in ROLES]
    shown = [role not in between[:-1] for role in every]
    for role in compress(every, shown):
        found.add_column(called(report, role), justify="right", overflow="fold", min_width=10)
    for row in rows(report):
        found.add_row(row.label, row.unit, *compress(row.cells, shown))
    return found


def text(report: Report, width: int = 80) -> str:
    """The same as plain text: no control characters, no trailing spaces, no line longer than width."""
    return plain(render(report), width)


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
        # Values come from command lines, where `[a]` and `:x:` are no markup.
        markup=False,
        emoji=False,
    )
    console.print(content)
    return "".join(f"{line.rstrip()}\n" for line in sink.getvalue().splitlines())
