"""The width of the screen, and texts made to fit."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable

LEAST = 40
"""The least width that is written for, even in a narrower terminal."""

WIDEST = 120
"""The greatest width that is written for."""

TABLE = 60
"""The least width of a table with many columns."""


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


def in_lines(parts: Iterable[str], columns: int) -> list[str]:
    """The parts in as few lines as possible; no part is broken."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= columns:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return lines


def shortened(name: str, room: int) -> str:
    """A name in at most `room` columns, without its middle: `imagefolde...36ea597d061`."""
    return name if len(name) <= room else f"{name[: room // 2 - 2]}...{name[-(room - room // 2 - 1) :]}"
