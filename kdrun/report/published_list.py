"""The list of published tables, and the trainings of one: which are done, how long the rest takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kdrun.config.table import PublishedTable
from kdrun.figures import plural, roughly
from kdrun.report.published_page import arrow
from kdrun.report.tables import columns, grid, paragraph

HEAD = ("", "done", "", "time left")


class RowTrainings(NamedTuple):
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


def trainings_text(table: PublishedTable, lines: Sequence[RowTrainings], place: str, width: int) -> str:
    """The state of a table's trainings, pair by pair. place: the device of the estimates."""
    text = [f"{table.title} ({table.paper.authors}, {table.paper.venue}) on {table.dataset}"]
    for pair in dict.fromkeys(line.pair for line in lines):
        body = [_row(line) for line in lines if line.pair == pair]
        text += ["", arrow(pair), grid(columns(HEAD, body, left=(0, 2)), width).rstrip()]
    return "\n".join([*text, "", paragraph(_sum(lines, place), width).rstrip()])


def tables_text(known: Sequence[Known], place: str, width: int) -> str:
    """The list of all tables. place: the device of the estimates."""
    body = [
        (each.name, f"{each.cells}", "" if each.seconds is None else roughly(each.seconds), each.about)
        for each in known
    ]
    table = columns(("table", "cells", "time here", ""), body, left=(0, 3))
    note = (
        f"A cell is a pair, a method and a seed. Time: of all trainings on this machine's {place}, a rough "
        "estimate from a resnet20 step. From the table's own steps: kdrun table NAME --list"
    )
    return f"{grid(table, width)}\n{paragraph(note, width)}".rstrip()


def _row(line: RowTrainings) -> tuple[str, ...]:
    """The cells under HEAD."""
    begun = f"{line.begun} begun" if line.begun else ""
    return line.name, f"{line.done} of {line.total}", begun, roughly(line.seconds) if line.seconds else ""


def _sum(lines: Sequence[RowTrainings], place: str) -> str:
    done, total = sum(line.done for line in lines), sum(line.total for line in lines)
    state = f"{done} of {plural(total, 'training')} {'is' if total == 1 else 'are'} done"
    if done == total:
        return f"{state}; only evaluation may be left."
    seconds = sum(line.seconds for line in lines)
    return (
        f"{state}. The rest takes about {roughly(seconds)} on this machine's {place}, one after the other, "
        "estimated from first steps (a method's on its first pair), without evaluation. Nothing was trained."
    )
