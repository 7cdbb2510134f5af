"""Paths as a user types them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with a home folder for a leading `~` or `~name`; for the `~name` of no user as it is."""
    return Path(os.path.expanduser(path))


def no_folder(path: str | Path) -> str:
    """Why this is no folder, and none can be made here without another name; empty if it is or could be one.

    What is not there at all is no problem here.
    """
    place = Path(os.path.abspath(path))
    nearest = next((each for each in (place, *place.parents) if os.path.lexists(each)), None)
    if nearest is None or os.path.isdir(nearest):
        return ""
    kind = "is a file, not a folder" if os.path.exists(nearest) else "is a link to nothing"
    return kind if nearest == place else f"{nearest} {kind}"
