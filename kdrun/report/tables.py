"""Tables of short texts: in Markdown, as CSV, and in columns of plain text.

rich takes a millisecond for each row of a table, so one of thousands of runs would take seconds.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from io import StringIO
from typing import Any, NamedTuple

from rich.cells import cell_len

FAR = 10_000
"""A width in which nothing is folded."""


class Column(NamedTuple):
    """A column of a grid. least: its minimum width, even if the grid is then too wide."""

    heading: str
    texts: Sequence[str]
    right: bool = False
    least: int = 1

    @property
    def natural(self) -> int:
        """The width at which no text is folded; 0 for a column without texts."""
        lines = {line for text in {self.heading, *self.texts} for line in text.split("\n")}
        widest = max(map(cell_len, lines))
        return max(self.least, widest) if widest else 0


def columns(head: Sequence[str], body: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[Column]:
    """The columns of some rows. left: positions of the columns of words; figures stand to the right."""
    return [
        Column(heading, [row[place] for row in body], place not in left) for place, heading in enumerate(head)
    ]


def natural_width(columns: Sequence[Column], space: int = 2) -> int:
    """The width of a grid in which no text is folded."""
    return sum(column.natural + space for column in columns) - space


def grid(columns: Sequence[Column], width: int, space: int = 2) -> str:
    """The columns beside each other, `space` blanks apart. Texts are folded if it is wider than `width`.

    Headings stand above the first row, folded ones or not.
    """
    widths = _widths(columns, width, space)
    rows = zip(*((column.heading, *column.texts) for column in columns), strict=True)
    cells = [[folded(text, own) for text, own in zip(row, widths, strict=True)] for row in rows]
    cells[:1] = map(_lowered, cells[:1])
    sides = [(column.right, own) for column, own in zip(columns, widths, strict=True)]
    lines = (_line(row, number, sides) for row in cells for number in range(max(map(len, row))))
    return "".join(f"{(' ' * space).join(line).rstrip()}\n" for line in lines)


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, of which the first is its head, the first column to the left."""
    head, *body = table
    return grid(columns(head, body), FAR).splitlines()


def paragraph(text: str, width: int) -> str:
    """The text in lines of at most `width` columns."""
    return "".join(f"{line}\n" for line in folded(text, width))


@cache
def folded(text: str, width: int) -> tuple[str, ...]:
    """The lines of a text, of at most `width` columns, broken between words if that is possible."""
    if cell_len(text) <= width and "\n" not in text:
        return (text,)
    from rich.console import Console
    from rich.text import Text

    lines = Text(text).wrap(Console(width=width), width, overflow="fold")
    return tuple(line.plain.rstrip() for line in lines)


def pipe_table(head: Sequence[str], body: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a markdown table; the first `left` columns to the left, the others to the right."""
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in (head, rule, *body)]


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """The rows as CSV; None is an empty cell."""
    sink = StringIO()
    csv.writer(sink, lineterminator="\n").writerows(rows)
    return sink.getvalue()


def _lowered(row: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """The cells with empty lines above, so that all end in the last line."""
    height = max(map(len, row))
    return [("",) * (height - len(lines)) + (*lines,) for lines in row]


def _line(row: Sequence[Sequence[str]], number: int, sides: Sequence[tuple[bool, int]]) -> list[str]:
    parts = []
    for lines, (right, width) in zip(row, sides, strict=True):
        text = lines[number] if number < len(lines) else ""
        space = " " * (width - cell_len(text))
        parts.append(space + text if right else text + space)
    return parts


def _widths(columns: Sequence[Column], width: int, space: int) -> list[int]:
    """The natural widths; if they are too wide together, the widest columns shrink, to `least` at most."""
    widths = [column.natural for column in columns]
    over = sum(widths) + space * (len(widths) - 1) - width
    while over > 0:
        can = [place for place, column in enumerate(columns) if widths[place] > column.least]
        if not can:
            break
        widths[max(can, key=lambda place: widths[place])] -= 1
        over -= 1
    return widths


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
