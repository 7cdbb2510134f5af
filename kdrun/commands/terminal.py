"""How wide the screen is, and names cut to fit."""

from __future__ import annotations

import shutil

LEAST = 40
"""Columns that everything is written for, however narrow the terminal is."""


def width() -> int:
    """Columns to write for: the terminal's, or 120 in a file or a pipe."""
    return max(LEAST, min(120, shutil.get_terminal_size((120, 24)).columns))


def shortened(name: str, room: int) -> str:
    """A name of at most `room` columns: `imagefolde...36ea597d061` without its middle."""
    return name if len(name) <= room else f"{name[: room // 2 - 2]}...{name[-(room - room // 2 - 1) :]}"
