"""The small files beside weights: marks, plans, rows of metrics.

They are read only here. Their fields are checked, so that an error names the damaged file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from kdrun.artefacts import open_own
from kdrun.errors import KdrunError
from kdrun.fields import wrong_fields

MARKS = ("model.json", "student.json")
"""File names of marks: for teachers and controls, and for students."""

PLAN, METRICS, NOTE = "plan.json", "metrics.jsonl", "group.json"


class Damaged(KdrunError):
    """A file of kdrun with other content than kdrun writes."""

    def __init__(self, path: str, value: None = None, problem: str = "", *more: Any) -> None:
        super().__init__(path, value, problem, *more)


class _Mark(TypedDict):
    role: str
    fingerprint: str
    weights: list[str]
    finished: float
    key: dict[str, Any]


class Mark(_Mark, total=False):
    """The mark of a finished training. weights, peers: file names. sha256: of these files, absent in older
    marks. call: when the command began that made it. key: all that the weights depend on.
    """

    name: str
    epochs: int
    best_epoch: int | None
    train_seconds: float
    peers: list[str]
    sha256: dict[str, str]
    companions: list[str]
    teacher: dict[str, Any]
    environment: dict[str, Any]
    call: float


class Named(TypedDict):
    """A training in plan.json. folder: relative to the folder of outputs."""

    name: str
    kind: str
    folder: str


class Planned(TypedDict):
    """plan.json: the command as it was typed, and the trainings of a run."""

    command: str
    trainings: list[Named]


class Note(TypedDict):
    """group.json, while a training of a sweep is not finished: the trainings that share its loop. members:
    the folders' names, in its order. threads: of its own process; None in the process of the command.
    """

    members: list[str]
    threads: int | None


class _Row(TypedDict):
    epoch: int
    epochs: int
    lr: float
    loss: float


class Row(_Row, total=False):
    """A line of metrics.jsonl."""

    stage: str
    terms: dict[str, float]
    validation: dict[str, float]
    seconds: float
    gradients: dict[str, dict[str, float | None]]


def teachers_of(key: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The teachers in the key of a student, each `{key, weights}`; empty for a model without teachers."""
    several = key.get("teachers") or []
    return [each for each in (key.get("teacher"), *several) if isinstance(each, Mapping)]


def read_mark(path: Path) -> Mark | None:
    """The mark of a training, None if there is none. Raises Damaged, and OSError if it is not readable."""
    return cast("Mark | None", read_fields(path, Mark))


def read_planned(path: Path) -> Planned | None:
    """The plan in a run's folder, None if there is none. Raises Damaged and OSError."""
    return cast("Planned | None", read_fields(path, Planned))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, of an epoch the last. Other lines, as of a killed process, are not."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    text = None if path.is_dir() else read_own(path)
    for line in (text or "").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if not any(wrong_fields(row, Row)):
            rows.pop((row.get("stage", ""), row["epoch"]), None)
            rows[row.get("stage", ""), row["epoch"]] = row
    return list(rows.values())


def read_own(path: Path) -> str | None:
    """The text of a file that only kdrun writes, None without. Raises KdrunError for a link, and OSError."""
    try:
        handle = open_own(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(handle, encoding="utf-8", errors="replace") as file:
        return file.read()


def read_fields(path: Path, wanted: Any) -> Any:
    """A JSON file with the fields of a TypedDict, None if there is none. Raises Damaged and OSError."""
    try:
        text = read_own(path)
        content = None if text is None else json.loads(text)
    except IsADirectoryError as error:
        raise Damaged(str(path), None, "is a folder") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(str(path), None, "is damaged: not JSON") from error
    except KdrunError as error:
        raise Damaged(str(path), None, str(error.args[2]).partition(",")[0]) from error
    if text is not None and (wrong := next(wrong_fields(content, wanted), "")):
        raise Damaged(str(path), None, f"is damaged: {wrong}")
    return content
