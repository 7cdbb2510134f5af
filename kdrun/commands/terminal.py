"""The width of the screen, and texts made to fit."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

LEAST = 40
"""The least width that is written for, even in a narrower terminal."""

TABLE = 60
"""The least width of a table with many columns."""


def width(least: int = LEAST) -> int:
    """Columns to write for: the terminal's, or 120 in a file or a pipe."""
    return max(least, min(120, shutil.get_terminal_size((120, 24)).columns))


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
