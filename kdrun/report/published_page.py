"""The page of a published table: as text, markdown, csv, json and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from kdrun.errors import KdrunError
from kdrun.report import published_words as words
from kdrun.report.latex import Cell as LatexCell
from kdrun.report.latex import Figure, Row, latex
from kdrun.report.published import Cell, Page, differences, records
from kdrun.report.tables import Column, as_csv, columns, grid, natural_width, paragraph, pipe_table

FORMATS = ("text", "md", "csv", "json", "tex")

FIELDS = (
    *("pair", "method", "published", "published_std", "published_runs", "source", "others"),
    *("ours", "ours_std", "ours_n", "difference", "within_two_std", "mark", "reduced", "lacks"),
)
"""The columns of the csv."""

WHOLE_WORDS: Any = {"break_long_words": False, "break_on_hyphens": False}


def render(shown: Page, format: str = "text", width: int = 80) -> str:
    """The page in one of FORMATS; width: of the text. Raises KdrunError for another format."""
    if format not in FORMATS:
        raise KdrunError("format", format, "no such format", FORMATS)
    if format == "text":
        return text(shown, width)
    return {"md": markdown, "csv": csv_text, "json": json_text, "tex": tex}[format](shown)


def text(shown: Page, width: int = 80) -> str:
    """As plain text, no line longer than width. In a narrow terminal published deviations are left out, and
    only the heading names the reduced keys."""
    for full in (True, False):
        tables = {pair: _columns(shown, pair, full) for pair in shown.pairs}
        if all(natural_width(table) <= width for table in tables.values()):
            break
    parts = [paragraph(line, width) for line in words.heading(shown)]
    for pair, table in tables.items():
        parts += ["\n", paragraph(words.arrow(pair), width), grid(table, width)]
    for title, notes in words.below(shown):
        parts += ["\n", paragraph(title, width) if title else ""]
        parts += [paragraph(_wrapped(note, width, "- " if title else ""), width) for note in notes]
    return "".join(parts)


def markdown(shown: Page) -> str:
    """As markdown, with a table for each pair."""
    first, *rest = words.heading(shown)
    lines = [f"# {first}", *(line for sentence in rest for line in ("", sentence))]
    for pair in shown.pairs:
        body = [words.row(shown, cell) for cell in shown.cells if cell.pair == pair]
        lines += ["", f"## {words.arrow(pair)}", "", *pipe_table(["", *words.columns(shown)], body)]
    for title, notes in words.below(shown):
        lines += ["", *([f"## {title}", ""] if title else [])]
        lines += [f"- `*`{note[1:]}" if note.startswith("*") else f"- {note}" for note in notes]
    return "\n".join(lines) + "\n"


def csv_text(shown: Page) -> str:
    """A line for each cell, with unrounded figures; others as `value +- std (runs) who`, with semicolons."""
    flat = [
        {**record, **_flat(shown, cell, record)}
        for cell, record in zip(shown.cells, records(shown), strict=True)
    ]
    return as_csv([FIELDS, *([record.get(name) for name in FIELDS] for record in flat)])


def json_text(shown: Page) -> str:
    """The table, its cells (`records`), and every difference between the protocols."""
    table = shown.table
    about = {"table": table.name, "title": table.title, "paper": table.paper._asdict()}
    about |= {"convention": table.convention._asdict(), "reduced": list(shown.reduced)}
    about["made"] = list(shown.made)
    whole = {**about, "differences": differences(shown), "notes": list(table.notes), "cells": records(shown)}
    return json.dumps(whole, indent=1) + "\n"


def tex(shown: Page) -> str:
    """As LaTeX with booktabs: our best method of a pair is bold, methods that tie with it are underlined; a
    star: the published figure lies within two standard deviations of ours."""
    rows = []
    for pair in shown.pairs:
        rows.append(Row(words.arrow(pair)))
        rows += [
            Row(words.row_name(cell.pair, cell.method), _figures(shown, cell))
            for cell in shown.cells
            if cell.pair == pair
        ]
    sentences = words.heading(shown)
    sentences += [f"{words.star(shown)}."] if words.starred(shown) else []
    if any(cell.mark for cell in shown.cells):
        sentences.append("Bold: our best method; underlined: our seeds do not tell it from the best.")
    sentences += [f"{letter}: {who}." for who, letter in words.letters(shown).items()]
    caption = " ".join(sentence if sentence.endswith(".") else f"{sentence}." for sentence in sentences)
    label = f"tab:{shown.table.name}"
    return latex(words.columns(shown), rows, caption, label, digits=words.digits(shown))


def _columns(shown: Page, pair: str, full: bool) -> list[Column]:
    """The table of a pair; columns without a heading hold words."""
    head = ["", *words.columns(shown)]
    body = [words.row(shown, cell, full) for cell in shown.cells if cell.pair == pair]
    return columns(head, body, [place for place, name in enumerate(head) if not name])


def _wrapped(note: str, width: int, bullet: str) -> str:
    """The note in lines of at most width, indented below the first; a long command continues after a `\\`."""
    end = " \\" if "kdrun table" in note else ""
    pieces = wrap(note, width - len(end), initial_indent=bullet, subsequent_indent="  ", **WHOLE_WORDS)
    return f"{end}\n".join(pieces)


def _flat(shown: Page, cell: Cell, record: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values of a record, by the names of FIELDS."""
    published, ours = record.get("published", {}), record.get("ours", {})
    return {
        "published": published.get("value"),
        "published_std": published.get("std"),
        "published_runs": published.get("runs"),
        "source": published.get("source"),
        "others": "; ".join(f"{words.value_text(shown, value)} {value.who}" for value in cell.others),
        "ours": ours.get("mean"),
        "ours_std": ours.get("std"),
        "ours_n": ours.get("n"),
        "reduced": " ".join(record.get("reduced", ())),
    }


def _figures(shown: Page, cell: Cell) -> list[LatexCell]:
    """The cells of a line in LaTeX. Several others are one text, each with its letter."""
    published, ours, difference = cell.published, cell.ours, cell.difference
    row: list[LatexCell] = [Figure(published.value, published.std) if published else None]
    if "others" in words.columns(shown):
        several = words.letters(shown) and cell.others
        alone = Figure(cell.others[0].value, cell.others[0].std) if cell.others else None
        row.append(words.others_text(shown, cell) if several else alone)
    row.append(Figure(ours.mean, ours.std, cell.mark) if ours else "")
    if shown.reduced:
        return [*row, words.row(shown, cell)[-1]]
    return [*row, "" if difference is None else Figure(difference, gain=True, star=cell.near is True)]
