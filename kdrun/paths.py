"""Paths as a user types them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with a home folder for a leading `~` or `~name`. The `~name` of no user stays as it is, and is
    then no such file.
    """
    return Path(os.path.expanduser(path))
