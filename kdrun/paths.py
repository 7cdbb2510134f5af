"""Paths as a user types them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with a home folder for a leading `~` or `~name`; for the `~name` of no user as it is."""
    return Path(os.path.expanduser(path))
