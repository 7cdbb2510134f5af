"""How wide the screen is, and names cut to fit."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

LEAST = 40
"""Columns that everything is written for, however narrow the terminal is."""


TABLE = 60
"""Columns that a table with many columns takes at least."""


def width(least: int = LEAST) -> int:
    """Columns to write for: the terminal's, or 120 in a file or a pipe."""
    return max(least, min(120, shutil.get_terminal_size((120, 24)).columns))


def in_lines(parts: Iterable[str], columns: int) -> list[str]:
    """The parts in as few lines as they fit into, none of them broken."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= columns:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return lines


def shortened(name: str, room: int) -> str:
    """A name of at most `room` columns: `imagefolde...36ea597d061` without its middle."""
    return name if len(name) <= room else f"{name[: room // 2 - 2]}...{name[-(room - room // 2 - 1) :]}"
