"""A table of figures as LaTeX with booktabs: mean, standard deviation as subscript, best and ties marked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kdrun.figures import percent, signed
from kdrun.report.statistics import RankMark

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
WORDS = {"->": r"$\to$", "+-": r"$\pm$", "<": "$<$", ">": "$>$"}
ESCAPED = re.compile("|".join(map(re.escape, [*WORDS, *SPECIAL])))
NUMBER = re.compile(r"[-+]\d+(\.\d+)?")

MARKED = " Bold: the highest mean; underlined: ties with it."
"""For the caption of a table with marks."""

NEEDED = r"% needs \usepackage{booktabs}"


class Number(NamedTuple):
    """A number in a cell. std: None if there is none. mark: whether it is the best, or ties with it. gain:
    shown with its sign. star: shown with a star, which the caption explains."""

    mean: float
    std: float | None = None
    mark: RankMark | None = None
    gain: bool = False
    star: bool = False


Cell = Number | str | None
"""A figure, a text, or nothing."""


class TableRow(NamedTuple):
    """A line of the table. Without cells it is a heading over the lines that follow."""

    name: str
    cells: Sequence[Cell] = ()


def latex(
    columns: Sequence[str],
    rows: Sequence[TableRow],
    caption: str = "",
    label: str = "",
    corner: str = "",
    digits: int = 2,
) -> str:
    """The table for a document that uses booktabs.

    columns: headings of the cells. corner: heading of the names. Names, headings, caption and texts are
    escaped. The best figure is bold, ties with it are underlined, None is a dash.
    """
    wide = len(columns) + 1
    lines = [NEEDED, r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{escaped(caption)}}}"] if caption else []
    lines += [rf"\label{{{label}}}"] if label else []
    lines += [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
    lines += [_line([corner, *columns]), r"\midrule"]
    lines += _body(rows, wide, digits)
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def figure(value: Number, digits: int = 2) -> str:
    r"""`$75.33_{\pm 0.20}$`, in bold for the best, underlined for a tie."""
    mean = signed(value.mean, digits) if value.gain else percent(value.mean, digits)
    mean = {"best": rf"\mathbf{{{mean}}}", "tie": rf"\underline{{{mean}}}"}.get(value.mark or "", mean)
    std = "" if value.std is None else rf"_{{\pm {percent(value.std, digits)}}}"
    return f"${mean}{std}{'^{*}' if value.star else ''}$"


def escaped(text: str) -> str:
    """The text with LaTeX's special characters escaped; `->` and `+-` become signs."""
    return ESCAPED.sub(lambda match: WORDS.get(match[0]) or SPECIAL[match[0]], text)


def _body(rows: Sequence[TableRow], wide: int, digits: int) -> Iterator[str]:
    for position, row in enumerate(rows):
        if row.cells:
            yield _line([row.name, *(_cell(cell, digits) for cell in row.cells)], 1)
            continue
        yield from [r"\midrule"] if position else []
        yield rf"\multicolumn{{{wide}}}{{l}}{{\emph{{{escaped(row.name)}}}}} \\"


def _cell(cell: Cell, digits: int) -> str:
    if isinstance(cell, Number):
        return figure(cell, digits)
    if not cell:
        return "--" if cell is None else ""
    return f"${cell}$" if NUMBER.fullmatch(cell) else escaped(cell)


def _line(cells: Sequence[str], escape: int | None = None) -> str:
    """The cells of a line; the first `escape` of them (None: all) are texts.

    `[` and `*` at its start would be options of the line or rule before it.
    """
    count = len(cells) if escape is None else escape
    line = " & ".join([*map(escaped, cells[:count]), *cells[count:]])
    return ("{}" if line.startswith(("[", "*")) else "") + line + r" \\"
