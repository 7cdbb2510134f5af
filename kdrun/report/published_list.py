"""The list of published tables, and the trainings of one: which are done, how long the rest takes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.table import Table as Grid

from kdrun.config.table import Table
from kdrun.figures import plural, roughly
from kdrun.report.published_words import arrow
from kdrun.report.table import plain


class Line(NamedTuple):
    """The trainings of a row of a table. name: a method, or the baseline with its model. begun: interrupted,
    to be continued. seconds: estimate for the rest, on this machine.
    """

    pair: str
    name: str
    done: int
    begun: int
    total: int
    seconds: float


class Known(NamedTuple):
    """A table in the list of all. seconds: estimate for all its cells on this machine; None if unknown."""

    name: str
    about: str
    cells: int
    seconds: float | None


def trainings_text(table: Table, lines: Sequence[Line], place: str, width: int) -> str:
    """The state of a table's trainings, pair by pair. place: the device of the estimates."""
    text = [f"{table.title} ({table.paper.authors}, {table.paper.venue}) on {table.dataset}"]
    for pair in dict.fromkeys(line.pair for line in lines):
        text += ["", arrow(pair), plain(_grid([line for line in lines if line.pair == pair]), width).rstrip()]
    return "\n".join([*text, "", *_folded(_sum(lines, place), width)])


def tables_text(known: Sequence[Known], place: str, width: int) -> str:
    """The list of all tables. place: the device of the estimates."""
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("table", "cells", "time here", ""):
        grid.add_column(name, justify="right" if name in ("cells", "time here") else "left", overflow="fold")
    for each in known:
        cost = "" if each.seconds is None else roughly(each.seconds)
        grid.add_row(each.name, f"{each.cells}", cost, each.about)
    note = (
        f"A cell is a pair, a method and a seed. Time: of all trainings on this machine's {place}, a rough "
        "estimate from a resnet20 step. From the table's own steps: kdrun table NAME --list"
    )
    return "\n".join([plain(grid, width).rstrip(), "", *_folded(note, width)])


def _grid(lines: Sequence[Line]) -> Grid:
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "done", "", "time left"):
        grid.add_column(name, justify="right" if name in ("done", "time left") else "left", overflow="fold")
    for line in lines:
        begun = f"{line.begun} begun" if line.begun else ""
        left = roughly(line.seconds) if line.seconds else ""
        grid.add_row(line.name, f"{line.done} of {line.total}", begun, left)
    return grid


def _sum(lines: Sequence[Line], place: str) -> str:
    done, total = sum(line.done for line in lines), sum(line.total for line in lines)
    state = f"{done} of {plural(total, 'training')} {'is' if total == 1 else 'are'} done"
    if done == total:
        return f"{state}; only evaluation may be left."
    seconds = sum(line.seconds for line in lines)
    return (
        f"{state}. The rest takes about {roughly(seconds)} on this machine's {place}, one after the other, "
        "estimated from first steps (a method's on its first pair), without evaluation. Nothing was trained."
    )


def _folded(text: str, width: int) -> Iterator[str]:
    yield from textwrap.wrap(text, width, break_on_hyphens=False)
