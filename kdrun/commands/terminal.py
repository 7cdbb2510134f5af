"""How wide the screen is."""

from __future__ import annotations

import shutil


def width() -> int:
    """Columns to write for: the terminal's, or 120 in a file or a pipe."""
    return max(60, min(120, shutil.get_terminal_size((120, 24)).columns))
