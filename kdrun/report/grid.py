"""A table of short texts in columns, as plain text.

rich takes a millisecond for each row, so a table of thousands of runs would take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from rich.cells import cell_len

SPACE = 2
"""Blanks between two columns."""


class Column(NamedTuple):
    """A column of a grid. least: its minimum width, even if the grid is then too wide."""

    heading: str
    texts: Sequence[str]
    right: bool = False
    least: int = 1

    @property
    def natural(self) -> int:
        """The width at which no text is folded."""
        lines = {line for text in {self.heading, *self.texts} for line in text.split("\n")}
        return max(self.least, *map(cell_len, lines))


def natural_width(columns: Sequence[Column]) -> int:
    """The width of a grid in which no text is folded."""
    return sum(column.natural + SPACE for column in columns) - SPACE


def grid(columns: Sequence[Column], width: int) -> str:
    """The columns beside each other. Texts are folded if the grid is wider than `width`."""
    widths = _widths(columns, width)
    rows = zip(*((column.heading, *column.texts) for column in columns), strict=True)
    cells = ([folded(text, own) for text, own in zip(row, widths, strict=True)] for row in rows)
    sides = [(column.right, own) for column, own in zip(columns, widths, strict=True)]
    return "".join(_line(row, number, sides) for row in cells for number in range(max(map(len, row))))


@cache
def folded(text: str, width: int) -> tuple[str, ...]:
    """The text in lines of at most `width` columns, broken between words if that is possible."""
    if cell_len(text) <= width and "\n" not in text:
        return (text,)
    from rich.console import Console
    from rich.text import Text

    lines = Text(text).wrap(Console(width=width), width, overflow="fold")
    return tuple(line.plain.rstrip() for line in lines)


def _line(row: Sequence[Sequence[str]], number: int, sides: Sequence[tuple[bool, int]]) -> str:
    parts = []
    for lines, (right, width) in zip(row, sides, strict=True):
        text = lines[number] if number < len(lines) else ""
        space = " " * (width - cell_len(text))
        parts.append(space + text if right else text + space)
    return (" " * SPACE).join(parts).rstrip() + "\n"


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """The natural widths; if they are too wide together, the widest columns shrink, to `least` at most."""
    widths = [column.natural for column in columns]
    over = sum(widths) + SPACE * (len(widths) - 1) - width
    while over > 0:
        can = [place for place, column in enumerate(columns) if widths[place] > column.least]
        if not can:
            break
        widths[max(can, key=lambda place: widths[place])] -= 1
        over -= 1
    return widths
