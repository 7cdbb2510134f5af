"""The width of the screen, texts made to fit, and notes."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import textwrap
from collections.abc import Iterable

from rich.cells import cell_len

LEAST = 40
"""The least width that is written for, even in a narrower terminal."""

WIDEST = 120
"""The greatest width that is written for."""

LABEL = 10
"""Columns of the labels at the left, at most."""

TABLE = 60
"""The least width of a table with many columns."""


FILLER = "\x00"
"""Stands for the second column of a wide letter while a text is broken into lines."""


def width(least: int = LEAST) -> int:
    """Columns to write for: the terminal's, also through a pipe (`| head`), or 120 in a file."""
    return max(least, min(WIDEST, shutil.get_terminal_size((_behind_a_pipe(), 24)).columns))


def _behind_a_pipe() -> int:
    """The width of the terminal that shows errors, if the output is a pipe; else WIDEST."""
    try:
        if stat.S_ISFIFO(os.fstat(1).st_mode):
            return os.get_terminal_size(2).columns or WIDEST
    except OSError:
        pass
    return WIDEST


def in_lines(parts: Iterable[str], columns: int, space: int = 2) -> list[str]:
    """The parts in as few lines as possible, `space` columns apart; no part is broken."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1]) + space + cell_len(part) <= columns:
            lines[-1] += " " * space + part
        else:
            lines.append(part)
    return lines


def beside(label: str, parts: Iterable[str], columns: int) -> list[str]:
    """A label, and right of it the parts in as few lines as possible."""
    lines = in_lines(parts, columns - len(label))
    return [(" " * len(label) if place else label) + line for place, line in enumerate(lines)]


def note(text: str) -> None:
    """Shows a line about what is not as one may expect."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def folded(text: str, columns: int) -> str:
    """A text of one line or several, in lines of at most `columns`; no word is broken. A long line continues
    below its text: right of its label, or as far to the right as it began.
    """
    labelled = ((label_of(line), line) for line in text.split("\n"))
    return "\n".join(hung(label, line[len(label) :], columns) for label, line in labelled)


def label_of(line: str) -> str:
    """What a line begins with if its text stands right of a label or is indented: `note   `; else nothing."""
    words = re.match(r"\S*\s{2,}", line)
    return words[0] if words and (len(words[0]) <= LABEL or line[0] == " ") else ""


def hung(label: str, text: str, columns: int) -> str:
    """A label and a text right of it, in lines of at most `columns`, which wide letters take two of."""
    words = re.findall(r"([ \t\n\v\f\r]*)([^ \t\n\v\f\r]+)", text)
    lines, below = [label] if words else [], " " * cell_len(label)
    for place, (space, word) in enumerate(words):
        longer = f"{lines[-1]}{' ' * len(space)}{word}"
        if place and cell_len(longer) > columns:
            lines.append(below + word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def shortened(name: str, room: int, mark: str = "...") -> str:
    """A name in at most `room` columns, without its middle: `imagefolde...36ea597d061`."""
    if cell_len(name) <= room:
        return name
    first, last = max(room // 2 + 1 - len(mark), 0), max(room - room // 2 - 1, 0)
    end = _within(reversed(name), last)
    return f"{_within(name, first)}{mark}{end[::-1]}"


def _within(letters: Iterable[str], columns: int) -> str:
    """The first of these letters that stand in so many columns."""
    text = ""
    for letter in letters:
        if cell_len(text + letter) > columns:
            break
        text += letter
    return text


def padded(text: str, columns: int, right: bool = False) -> str:
    """A text with blanks up to so many columns. right: it stands at their right end."""
    space = " " * (columns - cell_len(text))
    return space + text if right else text + space


def widest(texts: Iterable[str]) -> int:
    """The columns of the widest text; 0 without any."""
    return max(map(cell_len, texts), default=0)


def wrapped(text: str, columns: int, first: str = "", below: str = "", hyphens: bool = True) -> list[str]:
    """A text in lines of at most `columns`, as `textwrap` breaks it, where a wide letter takes two columns.

    first, below: what the first line and the others begin with. hyphens: whether a word may end at one.
    """
    spaced = text if text.isascii() else "".join(letter + FILLER * (cell_len(letter) - 1) for letter in text)
    for room in range(columns, 0, -1):  # a word that is broken may leave a wide letter without its filler
        broken = textwrap.wrap(
            spaced, room, initial_indent=first, subsequent_indent=below, break_on_hyphens=hyphens
        )
        lines = [line.replace(FILLER, "") for line in broken]
        if widest(lines) <= columns:
            break
    return lines
