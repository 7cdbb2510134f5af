"""The page of a published table: introduction, cells and notes, as text, markdown, csv, json and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_lowercase
from textwrap import wrap
from typing import Any

from kdrun.config.overrides import key_of
from kdrun.config.table import FIGURES, Place, StatedNumber
from kdrun.errors import KdrunError
from kdrun.figures import signed
from kdrun.nested import grouped
from kdrun.report import blocks
from kdrun.report.latex import Cell as LatexCell
from kdrun.report.latex import Number, TableRow, latex
from kdrun.report.published import NEAR, MethodCells, TablePage, differences, missing, records, unknown
from kdrun.report.sweeps import key_name
from kdrun.report.tables import Column, as_csv, columns, grid, natural_width, paragraph, pipe_table

FORMATS = ("text", "md", "csv", "json", "tex")

FIELDS = (
    *("pair", "method", "published", "published_std", "published_runs", "source", "others"),
    *("ours", "ours_std", "ours_n", "difference", "within_two_std", "mark", "reduced", "lacks"),
)
"""The columns of the csv."""

WHOLE_WORDS: Any = {"break_long_words": False, "break_on_hyphens": False}

WHEN = {
    "last": "the last epoch",
    "best": "the epoch that was best on the test images",
    "unknown": "an epoch that is not stated",
}
OVER = {"mean": "mean", "median": "median", "single": "a single run", "unknown": "a figure"}
LISTED = 6
"""The most names in a list; the others are counted."""


def render(shown: TablePage, format: str = "text", width: int = 80) -> str:
    """The page in one of FORMATS; width: of the text. Raises KdrunError for another format."""
    if format not in FORMATS:
        raise KdrunError("format", format, "no such format", FORMATS)
    if format == "text":
        return text(shown, width)
    return {"md": markdown, "csv": csv_text, "json": json_text, "tex": tex}[format](shown)


def text(shown: TablePage, width: int = 80) -> str:
    """As plain text, no line longer than width. In a narrow terminal published deviations are left out, and
    only the introduction names the reduced keys."""
    for full in (True, False):
        tables = {pair: _columns(shown, pair, full) for pair in shown.pairs}
        if all(natural_width(table) <= width for table in tables.values()):
            break
    parts = [paragraph(line, width) for line in introduction(shown)]
    for pair, table in tables.items():
        parts += ["\n", paragraph(arrow(pair), width), grid(table, width)]
    for title, notes in below(shown):
        parts += ["\n", paragraph(title, width) if title else ""]
        parts += [paragraph(_wrapped(note, width, "- " if title else ""), width) for note in notes]
    return "".join(parts)


def markdown(shown: TablePage) -> str:
    """As markdown, with a table for each pair."""
    first, *rest = introduction(shown)
    lines = [f"# {first}", *(line for sentence in rest for line in ("", sentence))]
    for pair in shown.pairs:
        body = [row(shown, cell) for cell in shown.cells if cell.pair == pair]
        lines += ["", f"## {arrow(pair)}", "", *pipe_table(["", *headings(shown)], body)]
    for title, notes in below(shown):
        lines += ["", *([f"## {title}", ""] if title else [])]
        lines += [f"- {blocks.starred(note)}" for note in notes]
    return "\n".join(lines) + "\n"


def csv_text(shown: TablePage) -> str:
    """A line for each cell, with unrounded figures; others as `value +- std (runs) who`, with semicolons."""
    flat = [
        {**record, **_flat(shown, cell, record)}
        for cell, record in zip(shown.cells, records(shown), strict=True)
    ]
    return as_csv([FIELDS, *([record.get(name) for name in FIELDS] for record in flat)])


def json_text(shown: TablePage) -> str:
    """The table, its cells (`records`), and every difference between the protocols."""
    table = shown.table
    about = {"table": table.name, "title": table.title, "paper": table.paper._asdict()}
    about |= {"convention": table.convention._asdict(), "reduced": list(shown.reduced)}
    about["made"] = list(shown.made)
    whole = {**about, "differences": differences(shown), "notes": list(table.notes), "cells": records(shown)}
    return json.dumps(whole, indent=1) + "\n"


def tex(shown: TablePage) -> str:
    """As LaTeX with booktabs: our best method of a pair is bold, methods that tie with it are underlined; a
    star: the published figure lies within two standard deviations of ours."""
    rows = []
    for pair in shown.pairs:
        rows.append(TableRow(arrow(pair)))
        rows += [
            TableRow(row_name(cell.pair, cell.method), _figures(shown, cell))
            for cell in shown.cells
            if cell.pair == pair
        ]
    sentences = introduction(shown)
    sentences += [f"{star(shown)}."] if starred(shown) else []
    if any(cell.mark for cell in shown.cells):
        sentences.append("Bold: our best method; underlined: our seeds do not tell it from the best.")
    sentences += [f"{letter}: {who}." for who, letter in letters(shown).items()]
    caption = " ".join(sentence if sentence.endswith(".") else f"{sentence}." for sentence in sentences)
    label = f"tab:{shown.table.name}"
    return latex(headings(shown), rows, caption, label, digits=digits(shown))


def _columns(shown: TablePage, pair: str, full: bool) -> list[Column]:
    """The table of a pair; columns without a heading hold words."""
    head = ["", *headings(shown)]
    body = [row(shown, cell, full) for cell in shown.cells if cell.pair == pair]
    return columns(head, body, [place for place, name in enumerate(head) if not name])


def _wrapped(note: str, width: int, bullet: str) -> str:
    """The note in lines of at most width, indented below the first; a long command continues after a `\\`."""
    end = " \\" if "kdrun table" in note else ""
    pieces = wrap(note, width - len(end), initial_indent=bullet, subsequent_indent="  ", **WHOLE_WORDS)
    return f"{end}\n".join(pieces)


def _flat(shown: TablePage, cell: MethodCells, record: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values of a record, by the names of FIELDS."""
    published, ours = record.get("published", {}), record.get("ours", {})
    return {
        "published": published.get("value"),
        "published_std": published.get("std"),
        "published_runs": published.get("runs"),
        "source": published.get("source"),
        "others": "; ".join(f"{value_text(shown, value)} {value.who}" for value in cell.others),
        "ours": ours.get("mean"),
        "ours_std": ours.get("std"),
        "ours_n": ours.get("n"),
        "reduced": " ".join(record.get("reduced", ())),
    }


def _figures(shown: TablePage, cell: MethodCells) -> list[LatexCell]:
    """The cells of a line in LaTeX. Several others are one text, each with its letter."""
    published, ours, difference = cell.published, cell.ours, cell.difference
    cells: list[LatexCell] = [Number(published.value, published.std) if published else None]
    if "others" in headings(shown):
        several = letters(shown) and cell.others
        alone = Number(cell.others[0].value, cell.others[0].std) if cell.others else None
        cells.append(others_text(shown, cell) if several else alone)
    cells.append(Number(ours.mean, ours.std, cell.mark) if ours else "")
    if shown.reduced:
        return [*cells, row(shown, cell)[-1]]
    return [*cells, "" if difference is None else Number(difference, gain=True, star=cell.near is True)]


def introduction(shown: TablePage) -> list[str]:
    """What the table is, and how its figures were made; for a reduced budget, that it is no reproduction."""
    table, convention = shown.table, shown.table.convention
    less = "" if table.figure == "accuracy" else "; less is better"
    title = f"{table.title} ({table.paper.authors}, {table.paper.venue})"
    sure = "" if convention.sure or convention.epoch == "unknown" else ", most likely"
    runs = f" of {convention.runs} runs" if convention.runs and convention.runs > 1 else ""
    published = f"published: {OVER[convention.statistic]}{runs}{sure} at {WHEN[convention.epoch]}"
    lines = [
        f"{title}: {table.dataset}, {FIGURES[table.figure]}{less}",
        f"{published}; ours: mean +- std (seeds), last epoch",
    ]
    if shown.reduced:
        lines.append(f"{reduced(shown)}. This is not the published experiment, so it reproduces nothing.")
    return lines


def headings(shown: TablePage) -> list[str]:
    """The headings over the cells. `others` is left out if there are none. With a reduced budget the last
    column names the reduced keys instead of a difference."""
    others = ["others"] if any(cell.others for cell in shown.cells) else []
    return ["published", *others, "ours", "" if shown.reduced else "difference"]


def row(shown: TablePage, cell: MethodCells, full: bool = True) -> list[str]:
    """The texts of a line: its name, then one for each of `headings`. full: with published deviations and the
    reduced keys."""
    texts = [
        row_name(cell.pair, cell.method),
        "" if cell.published is None else value_text(shown, cell.published, full),
    ]
    texts += [others_text(shown, cell)] if "others" in headings(shown) else []
    ours = cell.ours
    texts.append("" if ours is None else number(shown, ours.mean, ours.std, ours.n))
    if shown.reduced:
        return [*texts, "" if not cell.values else reduced(shown) if full else "reduced"]
    star = "*" if cell.near else ""
    difference = "" if cell.difference is None else f"{star}{signed(cell.difference, digits(shown))}"
    return [*texts, difference]


def row_name(pair: str, method: str) -> str:
    """The method, or the baseline with its model."""
    teacher, _, student = pair.partition("-")
    return {"teacher": f"teacher {teacher}", "student": f"student {student}"}.get(method, method)


def arrow(pair: str) -> str:
    """`resnet56 -> resnet20`."""
    return pair.replace("-", " -> ", 1)


def digits(shown: TablePage) -> int:
    """Digits behind the point."""
    return 1 if shown.table.figure == "errors" else 2


def number(shown: TablePage, mean: float, std: float | None, n: int | None) -> str:
    """`75.33 +- 0.20 (5)`, without what is unknown; a count that is not a mean is a whole number."""
    counted = shown.table.figure == "errors" and std is None and float(mean).is_integer()
    spread = "" if std is None else f" +- {std:.{digits(shown)}f}"
    return f"{mean:.{0 if counted else digits(shown)}f}{spread}{'' if n is None else f' ({n})'}"


def value_text(shown: TablePage, value: StatedNumber, deviation: bool = True) -> str:
    """A figure of a paper or another implementation, with its deviation if that is asked for."""
    std = value.std if deviation else None
    return number(shown, value.value, std, None if std is None else value.runs)


def others_text(shown: TablePage, cell: MethodCells) -> str:
    """The results of others, each with its letter of `letters`."""
    known = letters(shown)
    texts = (f"{value_text(shown, value)} {known.get(value.who, '')}".strip() for value in cell.others)
    return ", ".join(texts)


def letters(shown: TablePage) -> dict[str, str]:
    """A letter for each of several others; none where there is one."""
    names = list(dict.fromkeys(who for who, _ in _who(shown)))
    return dict(zip(names, ascii_lowercase, strict=False)) if len(names) > 1 else {}


def starred(shown: TablePage) -> bool:
    """Whether some difference carries a star."""
    return not shown.reduced and any(cell.near for cell in shown.cells)


def star(shown: TablePage) -> str:
    """What a star means."""
    return f"* within {'two' if NEAR == 2 else NEAR} standard deviations of our seeds"


def reduced(shown: TablePage) -> str:
    """`reduced: student.epochs=10 dataset.train=5000`."""
    pairs = ((key_name(key_of(override)), override.partition("=")[2]) for override in shown.reduced)
    return "reduced: " + " ".join(f"{key}={value}" for key, value in pairs)


def below(shown: TablePage) -> Iterator[tuple[str, list[str]]]:
    """The notes under the table: a title (empty for the first part) and its lines."""
    yield "", [*_legend(shown), *_left_out(shown)]
    if lines := differences(shown):
        yield "Differences between the published protocol and ours", lines
    if shown.made:
        yield "Ours", list(shown.made)
    if shown.table.notes:
        yield "Before comparing", list(shown.table.notes)
    yield "Sources", list(_sources(shown))


def _legend(shown: TablePage) -> Iterator[str]:
    if starred(shown):
        yield f"{star(shown)}; difference: ours - published"
    if any(len(cell.values) == 1 and cell.method != "teacher" for cell in shown.cells):
        yield "(1): one seed, which says nothing about the spread of seeds"
    known = letters(shown)
    for who, about in _who(shown):
        yield f"{known.get(who, 'others')}: {who}{f', {about}' if about else ''}"


def _left_out(shown: TablePage) -> Iterator[str]:
    """Cells that are empty, and why."""
    if places := missing(shown):
        yield f"not run: kdrun table {shown.table.name}{''.join(_chosen(shown, places))}"
    for why, cells in grouped(shown.cells, lambda cell: cell.lacks).items():
        names = (cell.pair if shown.table.pairs[cell.pair].lacks else cell.method for cell in cells)
        if why:
            yield f"cannot be run: {', '.join(dict.fromkeys(names))}: kdrun lacks {why}"
    if places := unknown(shown):
        named = ", ".join(f"{method} for {arrow(pair)}" for pair, method in places[:LISTED])
        more = f", {len(places) - LISTED} more" if len(places) > LISTED else ""
        yield f"known, but not checked against a source, so not shown: {named}{more}"


def _chosen(shown: TablePage, cells: Sequence[Place]) -> Iterator[str]:
    """` pair=... method=...` of some cells. A key is left out if it would name the whole table or more than
    LISTED values: finished cells are not run again."""
    every = shown.table.places()
    for position, key in enumerate(("pair", "method")):
        names = list(dict.fromkeys(cell[position] for cell in cells))
        if len(names) <= LISTED and len(names) < len({place[position] for place in every}):
            yield f" {key}={','.join(names)}"


def _sources(shown: TablePage) -> Iterator[str]:
    """The sources of the shown cells' figures."""
    values = [cell.published for cell in shown.cells if cell.published]
    for what, sources in (
        ("figures", [value.source for value in values]),
        ("deviations", [value.std_source for value in values if value.std_source]),
        ("others", [value.source for cell in shown.cells for value in cell.others]),
    ):
        for source in dict.fromkeys(sources):
            yield f"{what}: {source.where}{' (quoted there)' if source.quoted else ''}"
    yield f"paper: {shown.table.paper.title}, {shown.table.paper.address}"


def _who(shown: TablePage) -> list[tuple[str, str]]:
    return list(dict.fromkeys((value.who, value.about) for cell in shown.cells for value in cell.others))
