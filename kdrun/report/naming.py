"""A run by its folder, by the first digits of its id, or by the name that the user gave it.

The id is the fingerprint at the end of the folder's name. `about.json` in the folder has the user's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from kdrun.artefacts import write_json
from kdrun.config.quick import FOLDER
from kdrun.errors import KdrunError, nearest
from kdrun.records import Damaged, read_fields

FILE = "about.json"
LEAST = 2
"""So many digits of an id must be typed."""

ID = 6
"""So many digits are shown."""


class About(TypedDict, total=False):
    """What the user says of a run."""

    name: str
    note: str
    tags: list[str]


def about(folder: Path, name: str | None, note: str | None, tags: Sequence[str]) -> None:
    """Writes what was said of a run; what was said before and is not said now stays.

    Raises KdrunError if another run beside has the name.
    """
    new: About = {}
    if name is not None:
        taken = next((run for run in _runs(folder.parent) if said_of(run).get("name") == name), folder)
        if taken.name != folder.name:
            raise KdrunError("name", name, f"another run has this name: {taken}")
        new["name"] = name
    if note is not None:
        new["note"] = note
    if tags:
        new["tags"] = list(tags)
    old = said_of(folder)
    if new and old | new != old:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, old | new)


def said_of(folder: Path) -> About:
    """What the user said of a run; empty if nothing, or if the file is damaged."""
    try:
        found: About | None = read_fields(folder / FILE, About)
    except (Damaged, OSError):
        return {}
    return found or {}


def short_id(folder: Path) -> str:
    """The first digits of a run's id; empty for a folder without one."""
    found = re.search(r"-([0-9a-f]{12})$", folder.name)
    return found[1][:ID] if found else ""


def run_named(text: str, outputs: Path = Path("outputs")) -> Path:
    """The folder of a run. text: its path, the first digits of its id, or its name.

    Raises KdrunError if there is none, or if several ids begin so.
    """
    path = Path(text).expanduser()
    if path.exists() or "/" in text:
        return path
    runs = [run for folder in (outputs, outputs / FOLDER) for run in _runs(folder / "runs")]
    named = [run for run in runs if said_of(run).get("name") == text or run.name == text]
    word = text.lower()
    is_id = len(word) >= LEAST and re.fullmatch(r"[0-9a-f]{1,12}", word)
    found = named or [run for run in runs if is_id and run.name.rpartition("-")[2].startswith(word)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = [run.name.rpartition("-")[2] for run in found]
        raise KdrunError(text, None, "several runs begin so; more digits", ids)
    known = [
        *(name for run in runs if (name := said_of(run).get("name"))),
        *filter(None, map(short_id, runs)),
    ]
    problem = f"no such run: a folder, the first digits of its id, or its name in {outputs}/runs"
    raise KdrunError(text, None, problem, nearest(text, known), "kdrun outputs")


def _runs(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_dir())
