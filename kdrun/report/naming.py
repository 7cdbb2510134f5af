"""Finds a run by its folder, by the first digits of its id, or by the user's name for it.

The id is the fingerprint at the end of the folder's name. The user's name, note and tags are in `about.json`
in the folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from kdrun.artefacts import write_json
from kdrun.config.quick import FOLDER
from kdrun.errors import KdrunError, nearest
from kdrun.paths import expanded
from kdrun.records import Damaged, read_fields

FILE = "about.json"
LEAST = 2
"""The fewest digits of an id that can be typed."""

ID = 6
"""Digits of an id that are shown."""


class RunNote(TypedDict, total=False):
    """The user's name, note and tags for a run."""

    name: str
    note: str
    tags: list[str]


def about(folder: Path, name: str | None, note: str | None, tags: Sequence[str]) -> None:
    """Writes a run's name, note and tags. What is not given now keeps its earlier value.

    Raises KdrunError if another run beside has the name.
    """
    new: RunNote = {}
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


def said_of(folder: Path) -> RunNote:
    """A run's name, note and tags; empty if there are none, or if the file is damaged."""
    try:
        words: RunNote | None = read_fields(folder / FILE, RunNote)
    except (Damaged, OSError):
        return {}
    return words or {}


def short_id(folder: Path) -> str:
    """The first digits of a run's id; empty for a folder without one."""
    match = re.search(r"-([0-9a-f]{12})$", folder.name)
    return match[1][:ID] if match else ""


def run_named(text: str, outputs: Path = Path("outputs")) -> Path:
    """The folder of a run. text: its path, the first digits of its id, or its name.

    Raises KdrunError if there is none, or if the digits fit several.
    """
    path = expanded(text)
    if text and (path.exists() or "/" in text):
        return path
    runs = [run for folder in (outputs, outputs / FOLDER) for run in _runs(folder / "runs")]
    named = [run for run in runs if said_of(run).get("name") == text or run.name == text]
    word = text.lower()
    is_id = len(word) >= LEAST and re.fullmatch(r"[0-9a-f]{1,12}", word)
    fitting = named or [run for run in runs if is_id and run.name.rpartition("-")[2].startswith(word)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        ids = [run.name.rpartition("-")[2] for run in fitting]
        raise KdrunError(text, None, "several runs begin so: type more digits", ids)
    known = [
        *(name for run in runs if (name := said_of(run).get("name"))),
        *filter(None, map(short_id, runs)),
    ]
    problem = f"no such run: a folder, the first digits of its id, or its name in {outputs}/runs"
    raise KdrunError(text, None, problem, nearest(text, known), "kdrun outputs")


def _runs(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_dir())
